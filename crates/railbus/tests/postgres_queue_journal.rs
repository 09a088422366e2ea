//! Runs that a fleet shares on PostgreSQL: what a server does that a file does not, who may keep runs,
//! and how many commits that takes.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Flow, Pipeline, Status, StepDef,
    backend::{Begun, Journal, NewRun, Record, RunEnd, RunFilter, RunLease, RunState, Told},
    backends::postgres_queue::{Grant, grants, migrate, script},
    options::Options,
    pipeline::CancelReason,
    store,
};
use railbus_testbed::{Database, Fault, Postgres, Proxy};
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::timeout;

static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::options().password("secret").start().unwrap());

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

async fn open(url: &str) -> (Bus, Arc<dyn Journal>) {
    let bus = Bus::open(url).await.unwrap();
    let journal = bus.journal().unwrap();
    (bus, journal)
}

async fn begin(journal: &dyn Journal, id: &str) -> RunLease {
    match journal.begin(&NewRun::new(id, "p", "a -> b")).await.unwrap() {
        Begun::New(lease) | Begun::Resumed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// A step that never ends by itself.
struct Hangs(Arc<tokio::sync::Notify>);

#[async_trait::async_trait]
impl railbus::step::Step for Hangs {
    fn signature(&self) -> railbus::step::Signature {
        railbus::step::Signature::new("hangs")
    }

    async fn run(&self, _: railbus::step::Input<'_>) -> railbus::StepResult {
        self.0.notify_one();
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_runs_a_run_hears_at_once_that_its_end_is_asked_for_elsewhere() {
    let database = SERVER.database().unwrap();
    let url = database.url("postgres-queue");
    // Behind a pool that lends connections by transaction, only who asks in the same process is heard.
    for settings in ["", "?poll_only=true"] {
        let (here, _) = open(&format!("{url}{settings}")).await;
        let (there, journal) = open(&url).await;
        let (begun, id) = (Arc::new(tokio::sync::Notify::new()), format!("run {settings}"));
        let hangs = StepDef::of(Hangs(Arc::clone(&begun)));
        let pipeline = Pipeline::new("p").step(hangs).build().unwrap();
        // Its holder would look in 20 minutes.
        let run = pipeline.run(store! {}).journal(&here, &*id).unwrap().lease(HOUR);
        let run = tokio::spawn(run);
        begun.notified().await;
        let own = here.journal().unwrap();
        let asks = if settings.is_empty() { &journal } else { &own };
        assert_eq!(asks.cancel("another").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(asks.cancel(&id).await.unwrap(), RunState::Running);
        let report = timeout(PATIENCE, run).await.expect("nobody hears it").unwrap();
        assert_eq!(report.cancelled(), Some((Some("hangs"), CancelReason::Asked)), "{report}");
        here.close().await.unwrap();
        there.close().await.unwrap();
    }
}

/// Returns how many transactions the server has numbered.
fn transactions(database: &Database<'_>) -> u64 {
    database.psql("SELECT pg_snapshot_xmax(pg_current_snapshot())").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_record_at_once_is_few_commits_and_what_is_refused_spoils_none() {
    // Alone on its server: transactions are counted.
    let server = Postgres::start().unwrap();
    let database = server.database().unwrap();
    let (bus, journal) = open(&database.url("postgres-queue")).await;
    let mut leases = Vec::new();
    for n in 0..200 {
        leases.push(begin(&*journal, &format!("run-{n}")).await);
    }
    let before = transactions(&database);
    let recording: Vec<_> = leases
        .iter()
        .enumerate()
        .map(|(n, lease)| {
            let (journal, mut lease) = (Arc::clone(&journal), lease.clone());
            // Every tenth was taken over.
            lease.fence -= u64::from(n % 10 == 0);
            tokio::spawn(async move { journal.record(&lease, &[Record::new("a", 1)]).await })
        })
        .collect();
    for (n, told) in recording.into_iter().enumerate() {
        match told.await.unwrap() {
            Ok(told) => assert_eq!((told, n % 10 == 0), (Told::GoOn, false)),
            Err(error) => assert_eq!((error.kind(), n % 10), (ErrorKind::Stale, 0), "{error}"),
        }
    }
    let spent = transactions(&database) - before;
    assert!(spent < 60, "{spent} transactions for 200 records");
    assert_eq!(database.psql("SELECT count(*) FROM railbus.journal_records").unwrap(), "180");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_when_its_server_was_killed_and_is_back_and_steps_run_once() {
    let server = Postgres::options().fsync(true).start().unwrap();
    let (bus, journal) = open(&server.database().unwrap().url("postgres-queue")).await;
    let server = Arc::new(server);
    let ran = Arc::new(AtomicU32::new(0));
    let step = |name: &'static str| {
        let (ran, server) = (Arc::clone(&ran), Arc::clone(&server));
        StepDef::fallible(name, move |_| {
            ran.fetch_add(1, SeqCst);
            server.kill().unwrap();
            server.start_again().unwrap();
            Ok(Flow::next(name))
        })
    };
    let pipeline = Pipeline::new("p").step(step("a")).step(step("b")).step(step("c"));
    let pipeline = pipeline.build().unwrap();
    let report = pipeline.run(store! {}).journal(&bus, "run").unwrap().await;
    assert_eq!((report.status(), ran.load(SeqCst)), (Status::Success, 3), "{report}");
    let run = journal.load("run").await.unwrap().unwrap();
    assert_eq!((run.run.state.name(), run.run.resumed, run.records.len()), ("success", 0, 3));
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_not_be_reached_is_said_once_the_lease_is_over() {
    let database = SERVER.database().unwrap();
    let proxy = Proxy::to(SERVER.address()).unwrap();
    let url = proxy.url_of(&database.url("postgres-queue"));
    let (bus, journal) = open(&format!("{url}?connect_timeout=1s&statement_timeout=1s")).await;
    let mut run = NewRun::new("run", "p", "a -> b");
    run.lease = Duration::from_secs(2);
    let Begun::New(lease) = journal.begin(&run).await.unwrap() else { panic!() };
    proxy.fault(Fault::Refuse);
    proxy.reset();
    let error = journal.record(&lease, &[Record::new("a", 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
    assert!(journal.begin(&run).await.unwrap_err().is_retryable());
    proxy.fault(Fault::None);
    // Meanwhile another took it over.
    let (other, theirs) = open(&database.url("postgres-queue")).await;
    begin(&*theirs, "run").await;
    let recording = async {
        loop {
            match journal.record(&lease, &[Record::new("a", 1)]).await {
                Err(error) if error.is_retryable() => {}
                told => break told,
            }
        }
    };
    let error = timeout(PATIENCE, recording).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stale, "{error}");
    bus.close().await.unwrap();
    other.close().await.unwrap();
}

/// Does all that a journal can, in a run of its own.
async fn all(journal: &dyn Journal, id: &str) -> railbus::Result<()> {
    let run = NewRun::new(id, "p", format!("the graph of {id}"));
    let Begun::New(lease) = journal.begin(&run).await? else { panic!() };
    let _ = journal.record(&lease, &[Record::new("a", 1)]).await?;
    let _ = journal.renew(&lease).await?;
    journal.release(&lease).await?;
    let Begun::Resumed(lease) = journal.begin(&run).await? else { panic!() };
    journal.cancel(id).await?;
    journal.end(&lease, RunEnd::Cancelled, None).await?;
    assert_eq!(journal.load(id).await?.unwrap().records.len(), 1);
    let one = RunFilter { id: Some(id.into()), ..RunFilter::default() };
    assert_eq!(journal.list(&one).await?.len(), 1);
    assert_eq!(journal.prune(&one, Duration::ZERO).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_role_that_may_only_work_can_keep_runs_and_one_that_may_only_publish_is_told() {
    let database = SERVER.database().unwrap();
    SERVER.role("runner", "w").unwrap();
    SERVER.role("sender", "w").unwrap();
    let owner = Options::parse(&database.url("postgres-queue")).unwrap();
    migrate(&owner, &[(Grant::All, "runner"), (Grant::Publish, "sender")]).await.unwrap();
    let (bus, journal) = open(&database.url_as("postgres-queue", "runner", "w")).await;
    all(&*journal, "run").await.unwrap();
    bus.close().await.unwrap();
    let (bus, journal) = open(&database.url_as("postgres-queue", "sender", "w")).await;
    let error = all(&*journal, "run").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Denied, false), "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("docs/postgres")), "{error}");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn tables_from_before_there_were_runs_are_brought_up_to_date_by_who_may_or_refused() {
    let database = SERVER.database().unwrap();
    // As the second version left them: without what came with runs.
    database.psql(&script("railbus", 0).unwrap()).unwrap();
    let tables = "journal, journal_inputs, journal_records, journal_trash, shapes";
    let older = "DELETE FROM railbus.migrations WHERE version >= 3;";
    let schema = tables.replace(", ", ", railbus.");
    database.psql(&format!("{older} DROP TABLE railbus.{schema};")).unwrap();
    let later = "ALTER TABLE railbus.cursors DROP COLUMN low, DROP COLUMN since; \
                 ALTER TABLE railbus.marks DROP COLUMN took; \
                 DROP INDEX railbus.deliveries_holds; \
                 DROP TABLE railbus.common_marks, railbus.common_buckets;";
    database.psql(later).unwrap();
    let drop_all = "DO $$ DECLARE f regprocedure; BEGIN \
        FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'railbus'::regnamespace \
        AND (proname LIKE '%journal%' OR proname = 'keep_shape') \
        LOOP EXECUTE 'DROP FUNCTION ' || f; END LOOP; END $$";
    database.psql(drop_all).unwrap();
    SERVER.role("late", "w").unwrap();
    database.psql(&grants("railbus", Grant::All, "late")).unwrap();
    let late = database.url_as("postgres-queue", "late", "w");
    let error = Bus::open(&late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.advice().unwrap().contains("railbus migrate"), "{error}");
    // Who may do it does, and its grants are for what is new as well.
    let (bus, journal) = open(&database.url("postgres-queue")).await;
    all(&*journal, "run").await.unwrap();
    bus.close().await.unwrap();
    let (bus, journal) = open(&late).await;
    assert_eq!(all(&*journal, "other").await.unwrap_err().kind(), ErrorKind::Denied);
    database.psql(&grants("railbus", Grant::All, "late")).unwrap();
    all(&*journal, "other").await.unwrap();
    bus.close().await.unwrap();
}

#[tokio::test]
async fn texts_that_postgresql_does_not_keep_are_refused_and_ids_with_them_are_of_no_run() {
    let database = SERVER.database().unwrap();
    let (bus, journal) = open(&database.url("postgres-queue")).await;
    let lease = begin(&*journal, "run").await;
    let error = journal.record(&lease, &[Record::new("a\0", 1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    let graph = NewRun::new("other", "p", "a -> \0");
    assert_eq!(journal.begin(&graph).await.unwrap_err().kind(), ErrorKind::Encode);
    assert!(journal.find("run\0").await.unwrap().is_none());
    assert!(journal.records("run\0", 0, 9).await.unwrap().is_empty());
    assert_eq!(journal.cancel("run\0").await.unwrap_err().kind(), ErrorKind::NotFound);
    let mut value = Record::new("b", 1);
    (value.values, value.path) = (store! { "v" => "a\0b" }, "\u{1F4E6}/".repeat(1500));
    for _ in 0..2 {
        let _ = journal.record(&lease, std::slice::from_ref(&value)).await.unwrap();
    }
    let found = journal.load("run").await.unwrap().unwrap().records;
    assert_eq!((found.len(), found[0].record.path.len()), (1, 7500));
    assert_eq!(*found[0].record.values.get::<String>("v").unwrap(), "a\0b");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_begin_and_are_pruned_at_once_keep_their_graphs() {
    let database = SERVER.database().unwrap();
    let (bus, journal) = open(&database.url("postgres-queue")).await;
    let pruning = {
        let journal = Arc::clone(&journal);
        async move {
            loop {
                journal.prune(&RunFilter::default(), Duration::ZERO).await.unwrap();
            }
        }
    };
    let beginning = async {
        for n in 0..150 {
            let lease = begin(&*journal, &format!("run-{n}")).await;
            let found = journal.find(&lease.run).await.unwrap().expect("it was pruned");
            assert_eq!(found.shape, "a -> b");
            journal.end(&lease, RunEnd::Success, None).await.unwrap();
        }
    };
    tokio::select! {
        () = beginning => {}
        () = pruning => {}
    }
    bus.close().await.unwrap();
}
