//! The suite on the backends of this crate: each passes what it claims and refuses the rest.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certified;

use async_trait::async_trait;
use certified::{SERVER, certified, shows};
use railbus::{
    Error, ErrorKind, Result,
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
    backends,
    conformance::{Control, Member, Status, Suite, Target},
    options::Options,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

#[tokio::test(flavor = "multi_thread")]
async fn memory_passes_all_that_one_process_can_show() {
    let target = Target::url("memory:").unwrap();
    // Its events end with the process, and nobody can write bytes into it that are no event.
    let not_run = [&SERVER[..], &["kill -9", "clocks apart", "poison"]].concat();
    certified(&shows(target, &not_run).await);
}

/// A backend that delivers inside publish and keeps nothing.
#[derive(Debug, Default)]
struct Plain(AtomicBool);

const PLAIN: Capability = Capability::inline("plain");

impl Plain {
    fn check(&self) -> Result<()> {
        match self.0.load(SeqCst) {
            true => Err(Error::new(ErrorKind::Closed, "plain", "it is closed")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Backend for Plain {
    fn capability(&self) -> &Capability {
        &PLAIN
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        batch.iter().map(|outgoing| self.check().and_then(|()| outgoing.event.check())).collect()
    }

    async fn subscribe(&self, _: Subscribe) -> Result<Arc<dyn Source>> {
        self.check()?;
        Err(PLAIN.refuse("subscribe", "has no groups", &["memory"]))
    }

    async fn ping(&self) -> Result<()> {
        self.check()
    }

    async fn close(&self, _: Duration) -> Result<()> {
        self.0.store(true, SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_groups_refuses_what_it_does_not_claim() {
    let target = Target::new(|| {
        let plain: Arc<dyn Backend> = Arc::new(Plain::default());
        Box::pin(async move { Ok(plain) })
    });
    let certificate = shows(target, &SERVER).await;
    // It has nothing that any case needs but patterns, and no group for bytes that are no event.
    for case in &certificate.cases {
        let needs = Suite::needs(case.name);
        let meets = needs.is_empty() || ["patterns", "poison"].contains(&case.name);
        assert_eq!(case.status == Status::Passed, meets, "{case:?} needs {needs:?}");
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_passes_all() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("events.db").display());
    let of_member = url.clone();
    let target = Target::url(&url).unwrap().member(move || {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_member_that_is_killed", "--nocapture"]);
        command.env("RAILBUS_TEST_URL", &of_member);
        command
    });
    certified(&shows(target, &SERVER).await);
    let bus = railbus::bus::Bus::open(&url).await.unwrap();
    let groups = bus.keeper().unwrap().groups().await.unwrap();
    assert!(groups.is_empty(), "left behind: {groups:?}");
}

/// The suite starts this test as a process of its own; alone it does nothing.
#[tokio::test]
async fn a_member_that_is_killed() {
    if let Some(member) = Member::from_env().unwrap() {
        let url = std::env::var("RAILBUS_TEST_URL").unwrap();
        let backend = backends::open(Options::parse(&url).unwrap()).await.unwrap();
        member.run(backend, std::io::stdout()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_given_up_leaves_its_server_running() {
    let (says, mut said) = tokio::sync::mpsc::unbounded_channel();
    let target = Target::url("memory:").unwrap().control(move |order| {
        let says = says.clone();
        Box::pin(async move {
            says.send(order).unwrap();
            Ok(())
        })
    });
    let suite = Suite::new(target).only(["server paused", "two groups"]);
    let mut run = Box::pin(suite.clone().only(["server paused"]).run());
    tokio::select! {
        ended = &mut run => panic!("{ended:?}"),
        order = said.recv() => assert_eq!(order, Some(Control::Pause)),
    }
    drop(run);
    assert_eq!(said.recv().await, Some(Control::Resume));

    // Asked to end, it has done so before it returns.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(suite.until(async { drop(stopped.await) }).run());
    assert_eq!(said.recv().await, Some(Control::Pause));
    drop(stop);
    let certificate = run.await.unwrap().unwrap();
    assert_eq!(said.try_recv(), Ok(Control::Resume));
    assert_eq!(certificate.case("server paused").unwrap().status, Status::NotRun);
    assert_eq!(certificate.case("two groups").unwrap().status, Status::Passed);
    assert!(said.try_recv().is_err());
}

#[tokio::test]
async fn a_case_that_does_not_exist_names_the_nearest() {
    let suite = Suite::new(Target::url("memory:").unwrap()).only(["stale acks"]);
    let error = suite.run().await.unwrap_err();
    assert_eq!(error.advice(), Some("did you mean `stale ack`?"));
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_an_error() {
    let target = Target::new(|| {
        let options = Options::parse("nowhere:").unwrap();
        Box::pin(backends::open(options))
    });
    assert!(Suite::new(target).run().await.is_err());
}

#[test]
fn everything_that_must_be_shown_has_a_case_and_every_case_is_told() {
    // Asked for as it runs: clones that share a target folder may share this test's binary.
    let krate = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let text = std::fs::read_to_string(krate.join("../../docs/conformance.md")).unwrap();
    let rows = text.lines().skip_while(|line| *line != "|---|---|").skip(1);
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 62, "16 of Watermill's, and those beyond them");
    let cells = rows.iter().filter_map(|row| row.trim_matches('|').split('|').nth(1));
    let told: std::collections::BTreeSet<_> =
        cells.flat_map(|c| c.split(',').map(str::trim)).collect();
    let cases: std::collections::BTreeSet<_> = Suite::names().into_iter().collect();
    assert_eq!(told, cases);
}
