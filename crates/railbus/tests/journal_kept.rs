//! What a journal keeps for how long, how it is listed, and what is wrong with a store, on each
//! backend that keeps runs.
#![cfg(any(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "kept_runs/place.rs"]
#[allow(dead_code)]
mod place;

use place::{Place, on_each_backend};

use railbus::{
    Bus, ErrorKind,
    backend::{Begun, Journal, NewRun, Record, RunEnd, RunFilter, RunLease, RunState},
};
use std::time::{Duration, Instant};

on_each_backend! {
    runs_are_listed_newest_first_by_page_state_and_pipeline,
    pruning_deletes_whole_runs_that_have_ended_and_none_that_runs,
    a_run_of_many_records_is_read_and_deleted_in_parts,
    retention_lets_go_what_has_ended_and_nothing_else,
    what_someone_changed_in_the_store_is_an_error_and_spoils_no_other_run,
    a_journal_outlives_its_bus_as_an_error,
}

async fn begin(journal: &dyn Journal, id: &str, pipeline: &str) -> RunLease {
    match journal.begin(&NewRun::new(id, pipeline, format!("graph of {pipeline}"))).await.unwrap() {
        Begun::New(lease) | Begun::Resumed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn records(n: usize) -> Vec<Record> {
    (0..n).map(|n| Record::new(format!("each#{n}"), 1)).collect()
}

/// Begins ten runs: of every end one, one that was left and one that runs, and three of another
/// pipeline.
async fn ten(place: &Place, journal: &dyn Journal) {
    begin(journal, "left", "orders").await;
    place.sql("UPDATE @journal SET until = 0");
    for how in
        [RunEnd::Success, RunEnd::Failure, RunEnd::Exception, RunEnd::Stopped, RunEnd::Cancelled]
    {
        let lease = begin(journal, how.name(), "orders").await;
        let _ = journal.record(&lease, &records(3)).await.unwrap();
        journal.end(&lease, how, None).await.unwrap();
    }
    begin(journal, "running", "orders").await;
    for n in 0..3 {
        begin(journal, &format!("mail-{n}"), "mail.daily").await;
    }
}

async fn ids(journal: &dyn Journal, filter: &RunFilter) -> String {
    let found = journal.list(filter).await.unwrap();
    found.iter().map(|run| run.id.as_str()).collect::<Vec<_>>().join(" ")
}

async fn runs_are_listed_newest_first_by_page_state_and_pipeline(place: Place) {
    let (_bus, journal) = place.open().await;
    ten(&place, &*journal).await;
    let all = "mail-2 mail-1 mail-0 running cancelled stopped exception failure success left";
    assert_eq!(ids(&*journal, &RunFilter::default()).await, all);
    let mut pages = Vec::new();
    let mut page = RunFilter { limit: Some(3), ..RunFilter::default() };
    loop {
        let found = journal.list(&page).await.unwrap();
        assert!(found.len() <= 3);
        let Some(last) = found.last() else { break };
        page.after = Some(last.id.clone());
        pages.extend(found.into_iter().map(|run| run.id));
    }
    assert_eq!(pages.join(" "), all);
    let of = |pipeline: Option<&str>, states: &[&str]| RunFilter {
        pipeline: pipeline.map(Into::into),
        states: states.iter().map(|state| state.parse().unwrap()).collect(),
        ..RunFilter::default()
    };
    assert_eq!(ids(&*journal, &of(Some("mail.*"), &[])).await, "mail-2 mail-1 mail-0");
    assert_eq!(ids(&*journal, &of(None, &["left"])).await, "left");
    assert_eq!(ids(&*journal, &of(Some("orders"), &["running", "left"])).await, "running left");
    assert_eq!(ids(&*journal, &of(None, &["stopped", "left"])).await, "stopped left");
    let one = RunFilter { id: Some("failure".into()), ..RunFilter::default() };
    assert_eq!(ids(&*journal, &one).await, "failure");
    let lost = RunFilter { after: Some("gone".into()), ..RunFilter::default() };
    assert_eq!(journal.list(&lost).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!("lfet".parse::<RunState>().unwrap_err().kind(), ErrorKind::Config);
}

async fn pruning_deletes_whole_runs_that_have_ended_and_none_that_runs(place: Place) {
    let (_bus, journal) = place.open().await;
    ten(&place, &*journal).await;
    let hour = Duration::from_secs(3600);
    assert_eq!(journal.prune(&RunFilter::default(), hour).await.unwrap(), 0);
    place.sql("UPDATE @journal SET touched = 0 WHERE id = 'failure'");
    assert_eq!(journal.prune(&RunFilter::default(), hour).await.unwrap(), 1);
    assert!(journal.find("failure").await.unwrap().is_none());
    let limited = RunFilter { limit: Some(2), ..RunFilter::default() };
    assert_eq!(journal.prune(&limited, Duration::ZERO).await.unwrap(), 2);
    assert_eq!(journal.prune(&RunFilter::default(), Duration::ZERO).await.unwrap(), 2);
    let kept = "mail-2 mail-1 mail-0 running left";
    assert_eq!(ids(&*journal, &RunFilter::default()).await, kept);
    assert_eq!((place.count("journal_records"), place.count("journal_trash")), (0, 0));
    assert_eq!((place.count("journal_inputs"), place.count("shapes")), (5, 2));
    let every = RunFilter {
        states: vec![RunState::Running, RunState::Left],
        pipeline: Some("*".into()),
        ..RunFilter::default()
    };
    assert_eq!(journal.prune(&every, Duration::ZERO).await.unwrap(), 1);
    assert_eq!(ids(&*journal, &RunFilter::default()).await, "mail-2 mail-1 mail-0 running");
    // Its id is free again.
    let again = journal.begin(&NewRun::new("left", "orders", "graph of orders")).await.unwrap();
    assert!(matches!(again, Begun::New(_)));
    assert!(journal.load("left").await.unwrap().unwrap().records.is_empty());
}

async fn a_run_of_many_records_is_read_and_deleted_in_parts(place: Place) {
    let (_bus, journal) = place.open().await;
    let lease = begin(&*journal, "r", "each").await;
    for part in records(5000).chunks(700) {
        let _ = journal.record(&lease, part).await.unwrap();
    }
    let found = journal.load("r").await.unwrap().unwrap();
    assert!(found.records.iter().map(|one| one.number).eq(1..=5000));
    assert_eq!(found.records[4321].record.path, "each#4321");
    let some = journal.records("r", 4998, 1000).await.unwrap();
    assert_eq!(some.len(), 2);
    journal.end(&lease, RunEnd::Success, None).await.unwrap();
    journal.prune(&RunFilter::default(), Duration::ZERO).await.unwrap();
    assert_eq!((place.count("journal_records"), place.count("journal_trash")), (0, 0));
}

async fn retention_lets_go_what_has_ended_and_nothing_else(place: Place) {
    let (bus, journal) = place.open().await;
    ten(&place, &*journal).await;
    bus.close().await.unwrap();
    let (_bus, journal) = place.open_with("?journal_retention=100ms").await;
    let began = Instant::now();
    while place.count("journal") > 5 || place.count("journal_records") > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "what has ended stays");
        // sleep: between looks at a file that another thread changes.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kept = "mail-2 mail-1 mail-0 running left";
    assert_eq!(ids(&*journal, &RunFilter::default()).await, kept);
}

/// What someone may do to the rows of a run. A column of PostgreSQL takes nothing of another type.
fn damages(place: &Place) -> Vec<&'static str> {
    let mut all = vec![
        "UPDATE @journal_records SET body = 'not json'",
        "UPDATE @journal_records SET body = '{\"status\":\"perhaps\"}'",
        "UPDATE @journal_records SET visit = -3",
        "UPDATE @journal_inputs SET input = '[1]'",
        "DELETE FROM @journal_inputs",
        "UPDATE @journal SET shape = 99",
        "UPDATE @journal SET state = 'perhaps'",
        "UPDATE @journal SET error = '}'",
    ];
    if place.url().starts_with("sqlite") {
        all.push("UPDATE @journal_records SET body = x'ff00'");
        all.push("UPDATE @journal SET until = 'soon'");
    }
    all
}

async fn what_someone_changed_in_the_store_is_an_error_and_spoils_no_other_run(place: Place) {
    let (_bus, journal) = place.open().await;
    let sound = begin(&*journal, "sound", "orders").await;
    let _ = journal.record(&sound, &records(1)).await.unwrap();
    for (n, damage) in damages(&place).into_iter().enumerate() {
        let id = format!("r-{n}");
        let lease = begin(&*journal, &id, "orders").await;
        let _ = journal.record(&lease, &records(2)).await.unwrap();
        let key = if damage.contains("UPDATE @journal SET") { "number" } else { "run" };
        place.sql(&format!("{damage} WHERE {key} = (SELECT max(number) FROM @journal)"));
        let error = journal.load(&id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{damage}: {error}");
        assert!(error.advice().is_some() && error.to_string().contains(place.shown()), "{error}");
        let beside = journal.load("sound").await.unwrap().unwrap();
        assert_eq!(beside.records.len(), 1);
        // Whatever it is told, it must not take others along.
        let _ = journal.record(&lease, &records(3)).await;
        let _ = journal.begin(&NewRun::new(&id, "orders", "graph of orders")).await;
        let _ = journal.cancel(&id).await;
        assert!(journal.record(&sound, &records(1)).await.is_ok(), "{damage}");
        place.sql(&format!("DELETE FROM @journal WHERE id = '{id}'"));
    }
}

async fn a_journal_outlives_its_bus_as_an_error(place: Place) {
    let (bus, journal) = place.open().await;
    let lease = begin(&*journal, "r", "orders").await;
    bus.close().await.unwrap();
    let errors = [
        journal.record(&lease, &records(1)).await.unwrap_err(),
        journal.renew(&lease).await.unwrap_err(),
        journal.load("r").await.unwrap_err(),
        journal.list(&RunFilter::default()).await.unwrap_err(),
        journal.prune(&RunFilter::default(), Duration::ZERO).await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Closed), "{errors:?}");
    // The bus itself says the same, not that it has no journal.
    let error = bus.journal().unwrap().load("r").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);

    let (dropped, journal) = place.open().await;
    drop(dropped);
    let began = Instant::now();
    while journal.load("r").await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "a journal keeps its store open");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_backend_without_a_journal_says_who_has_one() {
    let error = Bus::new().journal().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "journal: memory keeps no runs");
    let able: Vec<_> = ["sqlite", "postgres-queue"]
        .into_iter()
        .filter(|able| railbus::backends::TABLE.iter().any(|row| row.scheme == *able))
        .collect();
    assert_eq!(error.advice(), Some(&*format!("use a backend that does: {}", able.join(", "))));
}
