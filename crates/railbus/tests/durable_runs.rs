//! Runs in a journal: they go on where they were left, and run nothing again that is recorded.
#![cfg(any(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "kept_runs/place.rs"]
#[allow(dead_code)]
mod place;

use place::{Place, on_each_backend};
use railbus::{
    Cancel, ErrorKind, Event, Failure, Flow, Pipeline, Retry, Status, StepDef, chain, each,
    parallel, repeat, step::Opaque, store,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

type Calls = Arc<Mutex<Vec<String>>>;

on_each_backend! {
    a_run_that_is_over_comes_to_the_same_report_and_runs_nothing,
    a_run_whose_future_was_dropped_goes_on_at_the_first_step_that_is_not_recorded,
    a_run_of_another_graph_is_refused_with_the_difference,
    an_event_that_comes_again_goes_on_with_its_run_or_begins_anew_after_a_failure,
    a_value_that_can_not_be_kept_is_refused_before_anything_runs,
    a_value_that_turns_out_not_to_be_encodable_ends_the_run_and_says_which,
    what_a_recorded_step_means_is_a_part_of_the_graph_and_how_it_is_tried_is_not,
}

/// A step that says that it was called, and leaves its own name.
fn says(name: &str, calls: &Calls) -> StepDef {
    let (said, calls) = (name.to_owned(), Arc::clone(calls));
    StepDef::value(name, move |_| {
        calls.lock().unwrap().push(said.clone());
        said.clone()
    })
}

/// A step that gives the run up the first time, as the end of its process would.
fn dies(name: &str, calls: &Calls, cancel: &Cancel) -> StepDef {
    let (said, calls, cancel) = (name.to_owned(), Arc::clone(calls), cancel.clone());
    StepDef::value(name, move |_| {
        calls.lock().unwrap().push(said.clone());
        cancel.cancel();
        said.clone()
    })
}

fn called(calls: &Calls) -> String {
    std::mem::take(&mut *calls.lock().unwrap()).join(" ")
}

async fn a_run_that_is_over_comes_to_the_same_report_and_runs_nothing(place: Place) {
    let calls = Calls::default();
    let bus = place.bus("").await;
    let fails = StepDef::fallible("check", |_| Err(Failure::new("no").value(7).into()));
    let pipeline =
        Pipeline::new("p").step(says("a", &calls)).step(fails).on_failure(says("b", &calls));
    let pipeline =
        pipeline.step(each("items", says("c", &calls).needs::<u8>("item"))).build().unwrap();
    let first = pipeline.run(store! { "items" => [1, 2] }).journal(&bus, "run").unwrap().await;
    assert_eq!((called(&calls).as_str(), first.status()), ("a b c c", Status::Success));
    let again = pipeline.run(store! { "items" => [3] }).journal(&bus, "run").unwrap().await;
    assert_eq!((called(&calls).as_str(), again.status()), ("", Status::Success));
    assert_eq!(again.store().to_json().unwrap(), first.store().to_json().unwrap());
    assert!(again.path().eq(first.path()));
    assert_eq!(again.step("check").unwrap().error, first.step("check").unwrap().error);
    bus.close().await.unwrap();
}

async fn a_run_whose_future_was_dropped_goes_on_at_the_first_step_that_is_not_recorded(
    place: Place,
) {
    let calls = Calls::default();
    let bus = place.bus("").await;
    let hang = StepDef::of(Hang(Arc::default()));
    let group = parallel((chain((says("b1", &calls), says("b2", &calls))), says("c", &calls)));
    let pipeline = Pipeline::new("p").step(says("a", &calls)).step(group);
    let pipeline =
        pipeline.step(repeat(says("r", &calls)).times(2)).step(hang).step(says("z", &calls));
    let pipeline = pipeline.build().unwrap();
    let short = Duration::from_secs(1);
    let run = pipeline.run(store! { "n" => 1 }).journal(&bus, "run").unwrap().lease(short);
    let given_up = tokio::time::timeout(Duration::from_millis(500), run).await;
    assert!(given_up.is_err());
    assert_eq!(called(&calls), "a b1 c b2 r r");
    // Someone may still run it, for all that is known here.
    let early = pipeline.resume(&bus, "run").unwrap().await;
    assert_eq!(early.error().unwrap().kind(), "journal");
    let report = loop {
        let report = pipeline.resume(&bus, "run").unwrap().await;
        if report.error().is_none() {
            break report;
        }
        // sleep: the lease of the run that was dropped ends when its time is over, and tells nobody.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((called(&calls).as_str(), report.status()), ("z", Status::Success));
    assert_eq!(*report.get::<i32>("n").unwrap(), 1);
    bus.close().await.unwrap();
}

/// Hangs the first time it is called.
struct Hang(Arc<std::sync::atomic::AtomicBool>);

#[async_trait::async_trait]
impl railbus::step::Step for Hang {
    fn signature(&self) -> railbus::step::Signature {
        railbus::step::Signature::new("hang")
    }

    async fn run(&self, _: railbus::step::Input<'_>) -> railbus::StepResult {
        if !self.0.swap(true, std::sync::atomic::Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(Flow::next("through"))
    }
}

async fn a_run_of_another_graph_is_refused_with_the_difference(place: Place) {
    let (calls, cancel) = (Calls::default(), Cancel::new());
    let bus = place.bus("").await;
    let before = Pipeline::new("p")
        .step(dies("a", &calls, &cancel))
        .step(says("b", &calls))
        .build()
        .unwrap();
    let report = before.run(store! {}).cancel_on(&cancel).journal(&bus, "run").unwrap().await;
    assert_eq!(report.status(), Status::Cancelled);
    let now = Pipeline::new("p").step(says("a", &calls)).step(says("c", &calls)).build().unwrap();
    let report = now.run(store! {}).journal(&bus, "run").unwrap().await;
    let error = report.error().unwrap().line();
    assert!(error.contains("another graph: removed b; added c; changed a ("), "{error}");
    assert!(error.contains(")\n- a >a -> b\n"), "{error}");
    assert!(error.contains("- b >b -> end") && error.contains("+ c >c -> end"), "{error}");
    let bound = |to: &str| {
        let add = StepDef::fallible("add", |input| Ok(Flow::next(*input.get::<i64>("n")?)));
        Pipeline::new("q").step(add.needs::<i64>("n").bind("n", to)).build().unwrap()
    };
    let values = store! { "x" => 1_i64, "y" => 2_i64 };
    let _ = bound("x").run(values.clone()).journal(&bus, "q").unwrap().await;
    let error = bound("y").run(values).journal(&bus, "q").unwrap().await;
    let line = error.error().unwrap().line();
    assert!(line.contains("changed add ("), "{line}");
    assert!(line.contains("\n- add <x >add -> end\n+ add <y >add -> end"), "{line}");
    bus.close().await.unwrap();
}

async fn an_event_that_comes_again_goes_on_with_its_run_or_begins_anew_after_a_failure(
    place: Place,
) {
    let calls = Calls::default();
    let bus = place.bus("").await;
    let flaky = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&flaky);
    let flaky = StepDef::fallible("flaky", move |_| {
        match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Err("not yet".into()),
            n => Ok(Flow::next(n)),
        }
    });
    let pipeline =
        Pipeline::new("p").step(says("a", &calls)).step(flaky).durable(&bus).build().unwrap();
    let retry = Retry::attempts(3).backoff_factor(Duration::from_millis(1));
    bus.on("order").group("g").retry(retry).run(pipeline).await.unwrap();
    bus.publish(Event::new("order").id("e-1")).await.unwrap();
    bus.idle().await.unwrap();
    assert_eq!(called(&calls), "a a");
    let journal = bus.journal().unwrap();
    let ids = journal.list(&railbus::backend::RunFilter::default()).await.unwrap();
    let ids: Vec<_> = ids.iter().map(|run| (run.id.as_str(), run.state.name())).collect();
    assert_eq!(ids, [("p:e-1#2", "success"), ("p:e-1", "exception")]);
    bus.close().await.unwrap();
}

async fn a_value_that_can_not_be_kept_is_refused_before_anything_runs(place: Place) {
    let bus = place.bus("").await;
    let opaque = || StepDef::value("secret", |_| Opaque(7));
    let says = |error: &railbus::Error| {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("`secret` is a railbus::step::"), "{error}");
        assert!(error.to_string().contains("step: secret"), "{error}");
    };
    says(&Pipeline::new("p").step(opaque()).durable(&bus).build().unwrap_err());
    says(&Pipeline::new("p").step(repeat(opaque()).times(2)).durable(&bus).build().unwrap_err());
    let given = Pipeline::new("p").input::<Opaque<u8>>("secret").step(StepDef::value("a", |_| 1));
    let error = given.durable(&bus).build().unwrap_err();
    assert!(error.to_string().contains("`secret` is a"), "{error}");
    let plain = Pipeline::new("p").step(opaque()).build().unwrap();
    says(&plain.run(store! {}).journal(&bus, "run").unwrap_err());
    assert_eq!(plain.run(store! {}).await.status(), Status::Success);
    bus.close().await.unwrap();
}

async fn a_value_that_turns_out_not_to_be_encodable_ends_the_run_and_says_which(place: Place) {
    let bus = place.bus("").await;
    let opaque = StepDef::fallible("secret", |_| Ok(Flow::next(Opaque(7))));
    let last = StepDef::value("last", |_| 1);
    let pipeline = Pipeline::new("p").step(opaque).step(last).build().unwrap();
    let report = pipeline.run(store! {}).journal(&bus, "run").unwrap().await;
    let error = report.error().unwrap();
    assert_eq!((error.kind(), report.status()), ("journal", Status::Exception));
    assert!(error.line().contains("secret"), "{}", error.line());
    assert_eq!(report.step("last").unwrap().visits, 0);
    let given = pipeline.run(store! { "n" => Opaque(1) }).journal(&bus, "other").unwrap().await;
    assert!(given.error().unwrap().line().contains("the value `n`"), "{given}");
    bus.close().await.unwrap();
}

async fn what_a_recorded_step_means_is_a_part_of_the_graph_and_how_it_is_tried_is_not(
    place: Place,
) {
    let calls = Calls::default();
    let bus = place.bus("").await;
    let line =
        |step: StepDef| Pipeline::new("p").step(step).step(says("z", &calls)).build().unwrap();
    let before = line(says("a", &calls)).run(store! {}).journal(&bus, "run").unwrap().await;
    assert_eq!(before.status(), Status::Success);
    let tried =
        says("a", &calls).retry(Retry::attempts(7)).timeout(Duration::from_secs(9)).blocking();
    let same = line(tried).run(store! {}).journal(&bus, "run").unwrap().await;
    assert_eq!(same.status(), Status::Success, "{same}");
    let stops = line(says("a", &calls).stop_on_success(true));
    let other = stops.run(store! {}).journal(&bus, "run").unwrap().await;
    let error = other.error().unwrap().line();
    assert!(error.contains("+ a >a stop_on_success:true -> z"), "{error}");
    let sometimes = line(says("a", &calls).only_if(|_: &railbus::step::Input<'_>| true));
    let other = sometimes.run(store! {}).journal(&bus, "run").unwrap().await;
    assert!(other.error().unwrap().line().contains("only_if"), "{other}");
    bus.close().await.unwrap();
}
