//! The journal of runs, on each backend that keeps one: one run an id, each place once, one holder
//! at a time.
#![cfg(any(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "kept_runs/place.rs"]
#[allow(dead_code)]
mod place;

use place::{Place, on_each_backend};
use railbus::{
    Error, ErrorKind, Store,
    backend::{
        Begun, Journal, NewRun, Record, RecordStatus, RunEnd, RunError, RunFilter, RunLease,
        RunState, Told, Went,
    },
    json,
    payload::RawPayload,
    step::Opaque,
    store,
};
use std::{sync::Arc, time::Duration};

on_each_backend! {
    what_was_recorded_is_there_for_the_next_bus_as_it_was,
    a_run_that_someone_holds_is_theirs_until_the_lease_runs_out_or_is_given_back,
    of_all_who_begin_or_take_over_a_run_at_once_one_gets_it,
    a_lost_lease_writes_nothing_any_more,
    a_place_is_recorded_once_and_the_same_again_is_fine,
    a_cancelled_run_is_told_at_its_next_record_and_one_that_was_left_ends,
    a_run_of_another_graph_or_pipeline_is_refused_with_what_it_was,
    values_of_a_mebibyte_are_kept_and_what_is_too_large_or_no_json_is_refused,
}

const SHAPE: &str = "charge -> ship";

fn run(id: &str) -> NewRun {
    let mut run = NewRun::new(id, "fulfil", SHAPE);
    (run.version, run.owner) = ("v1".into(), "one".into());
    run.input = store! { "order" => 7, "tags" => ["b", "a"] };
    run
}

async fn begin(journal: &dyn Journal, id: &str) -> RunLease {
    match journal.begin(&run(id)).await.unwrap() {
        Begun::New(lease) | Begun::Resumed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn charged() -> Record {
    let mut record = Record::new("charge", 1);
    (record.tries, record.duration) = (3, Duration::from_micros(1_234_567));
    record.values = store! { "receipt" => json!({ "z": 1, "a": [1.5, null, "\u{1F4E6}"] }) };
    record
}

fn all_kinds() -> Vec<Record> {
    let mut refused = Record::new("fulfil/each#3/ship", 2);
    refused.status = RecordStatus::Failure;
    refused.error = Some(RunError {
        value: RawPayload::of(json!({ "code": 51 })),
        ..RunError::new("failure", "no\n\"such\" address")
    });
    refused.went = Went::Goto { to: "review".into(), reason: "manual".into(), failed: true };
    let mut broke = Record::new("a", u32::MAX);
    (broke.status, broke.error) =
        (RecordStatus::Exception, Some(RunError::new("timeout", "after 5 s")));
    let mut chose = Record::new("choose", 1);
    (chose.status, chose.went) = (RecordStatus::Decision, Went::Branch("premium".into()));
    chose.passed = Some(RawPayload::of("x".repeat(5)));
    let mut stopped = Record::new("stop", 1);
    stopped.went = Went::Stop;
    let mut skipped = Record::new("skip", 1);
    (skipped.status, skipped.went, skipped.tries) = (RecordStatus::Skipped, Went::Skip, 0);
    let mut given_up = Record::new("late", 1);
    given_up.status = RecordStatus::Cancelled;
    vec![charged(), refused, broke, chose, stopped, skipped, given_up]
}

async fn what_was_recorded_is_there_for_the_next_bus_as_it_was(place: Place) {
    let (bus, journal) = place.open().await;
    let lease = begin(&*journal, "r-1").await;
    assert_eq!(journal.record(&lease, &all_kinds()).await.unwrap(), Told::GoOn);
    bus.close().await.unwrap();

    place.expire();
    let (bus, journal) = place.open().await;
    let Begun::Resumed(lease) = journal.begin(&run("r-1")).await.unwrap() else { panic!() };
    assert_eq!(lease.fence, 2);
    let found = journal.load("r-1").await.unwrap().unwrap();
    let records: Vec<_> = found.records.iter().map(|one| one.record.clone()).collect();
    assert_eq!(records, all_kinds());
    let receipt = records[0].values.value("receipt").unwrap().text().unwrap();
    assert_eq!(receipt, "{\"z\":1,\"a\":[1.5,null,\"\u{1F4E6}\"]}", "the text stays as it was");
    let numbers: Vec<_> = found.records.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((found.shape.as_str(), found.input.to_json().unwrap().as_str()), (SHAPE, INPUT));
    assert_eq!((found.run.state, found.run.resumed, found.run.records), (RunState::Running, 1, 7));
    assert!(found.run.lease_left > Duration::from_secs(20));

    let error = RunError::new("failure", "no such address");
    journal.end(&lease, RunEnd::Failure, Some(error.clone())).await.unwrap();
    journal.end(&lease, RunEnd::Failure, Some(error.clone())).await.unwrap();
    let Begun::Finished(run) = journal.begin(&run("r-1")).await.unwrap() else { panic!() };
    assert_eq!((run.state, run.error), (RunState::Ended(RunEnd::Failure), Some(error)));
    assert!(run.ended_at.unwrap() >= run.began_at);
    bus.close().await.unwrap();
}

const INPUT: &str = r#"{"order":7,"tags":["b","a"]}"#;

async fn a_run_that_someone_holds_is_theirs_until_the_lease_runs_out_or_is_given_back(
    place: Place,
) {
    let ((one, ours), (two, theirs)) = (place.open().await, place.open().await);
    let lease = begin(&*ours, "r-1").await;
    let Begun::Elsewhere(held) = theirs.begin(&run("r-1")).await.unwrap() else { panic!() };
    assert_eq!((held.owner.as_str(), held.state), ("one", RunState::Running));
    assert!(held.lease_left > Duration::from_secs(20), "{:?}", held.lease_left);
    assert!(matches!(ours.begin(&run("r-1")).await.unwrap(), Begun::Elsewhere(_)));

    ours.release(&lease).await.unwrap();
    let left = theirs.find("r-1").await.unwrap().unwrap().run;
    assert_eq!((left.state, left.lease_left), (RunState::Left, Duration::ZERO));
    let taken = begin(&*theirs, "r-1").await;
    assert_eq!(taken.fence, 2);
    // Late, and of no effect.
    ours.release(&lease).await.unwrap();
    assert_eq!(theirs.renew(&taken).await.unwrap(), Told::GoOn);
    assert_eq!(theirs.find("r-1").await.unwrap().unwrap().run.state, RunState::Running);
    for bus in [one, two] {
        bus.close().await.unwrap();
    }
}

async fn of_all_who_begin_or_take_over_a_run_at_once_one_gets_it(place: Place) {
    let buses = [place.open().await, place.open().await, place.open().await];
    for id in ["a", "b", "c"] {
        // The first time it is new, and then it was left.
        for fence in 1..=4 {
            let tasks: Vec<_> = (0..30)
                .map(|n| {
                    let journal = Arc::clone(&buses[n % 3].1);
                    tokio::spawn(async move { journal.begin(&run(id)).await.unwrap() })
                })
                .collect();
            let mut got = Vec::new();
            for task in tasks {
                match task.await.unwrap() {
                    Begun::New(lease) | Begun::Resumed(lease) => got.push(lease.fence),
                    Begun::Elsewhere(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(got, [fence]);
            place.expire();
        }
    }
    assert_eq!(place.count("journal"), 3);
    assert_eq!(place.count("shapes"), 1, "a graph is kept once");
}

fn is(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
    }
}

async fn a_lost_lease_writes_nothing_any_more(place: Place) {
    let (_bus, journal) = place.open().await;
    let lost = begin(&*journal, "r-1").await;
    place.expire();
    // Nobody took it: late, but still the holder's.
    assert_eq!(journal.record(&lost, &[charged()]).await.unwrap(), Told::GoOn);
    place.expire();
    let mut other = run("r-1");
    other.owner = "two".into();
    let Begun::Resumed(lease) = journal.begin(&other).await.unwrap() else { panic!() };
    let late = Record::new("ship", 1);
    let refused = journal.record(&lost, std::slice::from_ref(&late)).await.unwrap_err();
    is(&refused, ErrorKind::Stale, &["r-1", "`two` has taken it over"]);
    is(&journal.renew(&lost).await.unwrap_err(), ErrorKind::Stale, &["two"]);
    is(&journal.end(&lost, RunEnd::Success, None).await.unwrap_err(), ErrorKind::Stale, &["two"]);
    let found = journal.load("r-1").await.unwrap().unwrap();
    assert_eq!((found.records.len(), found.run.state), (1, RunState::Running));

    journal.end(&lease, RunEnd::Success, None).await.unwrap();
    let refused = journal.record(&lease, &[late]).await.unwrap_err();
    is(&refused, ErrorKind::Stale, &["the run has ended: success"]);
    is(&journal.end(&lease, RunEnd::Failure, None).await.unwrap_err(), ErrorKind::Stale, &[]);
    journal.prune(&RunFilter::default(), Duration::ZERO).await.unwrap();
    is(&journal.renew(&lease).await.unwrap_err(), ErrorKind::Stale, &["the run was deleted"]);
}

async fn a_place_is_recorded_once_and_the_same_again_is_fine(place: Place) {
    let (_bus, journal) = place.open().await;
    let lease = begin(&*journal, "r-1").await;
    for _ in 0..2 {
        let batch = [charged(), charged(), Record::new("charge", 2)];
        assert_eq!(journal.record(&lease, &batch).await.unwrap(), Told::GoOn);
    }
    let mut other = charged();
    other.tries = 4;
    let known = [&[charged()][..], &[Record::new("new", 1), other.clone()], &[charged(), other]];
    for batch in &known[1..] {
        let refused = journal.record(&lease, batch).await.unwrap_err();
        is(&refused, ErrorKind::Internal, &["r-1", "charge", "another outcome"]);
    }
    let _ = journal.record(&lease, known[0]).await.unwrap();
    let found = journal.load("r-1").await.unwrap().unwrap();
    let places: Vec<_> =
        found.records.iter().map(|one| (one.record.path.as_str(), one.record.visit)).collect();
    assert_eq!(places, [("charge", 1), ("charge", 2)], "of a refused batch nothing is kept");
    assert_eq!(found.run.records, 2);
}

async fn a_cancelled_run_is_told_at_its_next_record_and_one_that_was_left_ends(place: Place) {
    let (_bus, journal) = place.open().await;
    let lease = begin(&*journal, "r-1").await;
    assert_eq!(journal.cancel("r-1").await.unwrap(), RunState::Running);
    assert_eq!(journal.record(&lease, &[charged()]).await.unwrap(), Told::Cancel);
    assert_eq!(journal.renew(&lease).await.unwrap(), Told::Cancel);
    let run_now = journal.find("r-1").await.unwrap().unwrap().run;
    assert_eq!((run_now.state, run_now.cancel_asked), (RunState::Running, true));
    journal.end(&lease, RunEnd::Cancelled, None).await.unwrap();
    let over = RunState::Ended(RunEnd::Cancelled);
    assert_eq!(journal.cancel("r-1").await.unwrap(), over);
    assert_eq!(journal.load("r-1").await.unwrap().unwrap().records.len(), 1);

    // Asked for while it ran, and its process died before it heard.
    begin(&*journal, "r-2").await;
    journal.cancel("r-2").await.unwrap();
    place.expire();
    let Begun::Finished(run_now) = journal.begin(&run("r-2")).await.unwrap() else { panic!() };
    assert_eq!(run_now.state, over);

    let lease = begin(&*journal, "r-3").await;
    place.expire();
    assert_eq!(journal.cancel("r-3").await.unwrap(), RunState::Left);
    let refused = journal.record(&lease, &[charged()]).await.unwrap_err();
    is(&refused, ErrorKind::Stale, &["the run has ended: cancelled"]);
    journal.end(&lease, RunEnd::Cancelled, None).await.unwrap();
    is(&journal.cancel("r-4").await.unwrap_err(), ErrorKind::NotFound, &["r-4"]);
}

async fn a_run_of_another_graph_or_pipeline_is_refused_with_what_it_was(place: Place) {
    let (_bus, journal) = place.open().await;
    let lease = begin(&*journal, "r-1").await;
    let mut changed = run("r-1");
    changed.shape = "charge -> pack -> ship".into();
    // Who runs it goes on, whatever others would run.
    assert!(matches!(journal.begin(&changed).await.unwrap(), Begun::Elsewhere(_)));
    place.expire();
    let mut renamed = run("r-1");
    renamed.pipeline = "return".into();
    for other in [&changed, &renamed] {
        let Begun::OtherShape { run, shape } = journal.begin(other).await.unwrap() else {
            panic!()
        };
        assert_eq!((run.pipeline.as_str(), run.version.as_str()), ("fulfil", "v1"));
        assert_eq!((shape.as_str(), run.state), (SHAPE, RunState::Left));
    }
    // Another text under the same version is another graph; another version of the same is not.
    let mut same = run("r-1");
    same.version = "v2".into();
    assert!(matches!(journal.begin(&same).await.unwrap(), Begun::Resumed(_)));
    is(&journal.renew(&lease).await.unwrap_err(), ErrorKind::Stale, &[]);
}

async fn values_of_a_mebibyte_are_kept_and_what_is_too_large_or_no_json_is_refused(place: Place) {
    let (_bus, journal) = place.open().await;
    let lease = begin(&*journal, "r-1").await;
    let large = "\u{e9}".repeat(1 << 19);
    let many: Vec<_> = (0..20)
        .map(|n| {
            let mut record = Record::new(format!("step-{n}"), 1);
            record.values.set("large", large.clone());
            record
        })
        .collect();
    let _ = journal.record(&lease, &many).await.unwrap();
    let found = journal.load("r-1").await.unwrap().unwrap();
    assert_eq!(found.records.len(), 20);
    for one in &found.records {
        assert_eq!(*one.record.values.get::<String>("large").unwrap(), large);
    }
    // Memory stays bounded however large they are.
    assert!(journal.records("r-1", 0, 1000).await.unwrap().len() < 20);

    let refused = |values: Store| {
        let mut record = Record::new("huge", 3);
        record.values = values;
        let (journal, lease) = (Arc::clone(&journal), lease.clone());
        async move { journal.record(&lease, &[record]).await.unwrap_err() }
    };
    let huge = refused(store! { "v" => "x".repeat(16 << 20) }).await;
    is(&huge, ErrorKind::TooLarge, &["huge", "visit: 3", "16777216"]);
    let kept_here = refused(store! { "fine" => 1, "socket" => Opaque(1) }).await;
    is(&kept_here, ErrorKind::Encode, &["huge", "`socket`", "opaque"]);
    let mut broken = Store::new();
    broken.keep("broken", RawPayload::from_json_text("{\"a\":".into()));
    is(&refused(broken).await, ErrorKind::Encode, &["`broken`"]);
    assert_eq!(journal.load("r-1").await.unwrap().unwrap().records.len(), 20);

    let mut wrong = [run(""), run("x"), run("x"), run("x"), run("x"), run(&"x".repeat(1025))];
    wrong[1].owner.clear();
    wrong[2].input.set("input", "x".repeat(16 << 20));
    wrong[3].input.set("input", Opaque(1));
    wrong[4].shape = "x".repeat((16 << 20) + 1);
    for run in &wrong {
        let error = journal.begin(run).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
    }
    assert_eq!(place.count("journal"), 1);
}
