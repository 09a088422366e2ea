//! Retry policies, evaluation states, and one step alone.

use crate::{fails, path, says, throws};
use railbus::{
    Evaluation, Failure, Flow, Pipeline, Retry, RunReport, Status, StepDef, json, parallel,
    pipeline::StepStatus, retry::IntoRetry, store,
};
use std::{
    collections::HashMap,
    env::VarError,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

const SOON: Duration = Duration::from_millis(1);

fn waits(retry: &Retry) -> Vec<u128> {
    (1..retry.max_attempts()).filter_map(|n| Some(retry.wait_after(n)?.as_millis())).collect()
}

/// A step whose first tries end in an exception, and how often it was called.
fn broken_for(tries: u32) -> (StepDef, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let step = StepDef::fallible("a", move |_| match count.fetch_add(1, Relaxed) < tries {
        true => Err(io::Error::other("broken").into()),
        false => Ok(Flow::next("works")),
    });
    (step.retry(Retry::attempts(3).backoff_factor(SOON)), calls)
}

async fn run(step: StepDef) -> RunReport {
    Pipeline::new("p").step(step).build().unwrap().run(store! {}).await
}

#[test]
fn a_policy_keeps_what_it_is_given_and_has_defaults_for_the_rest() {
    let given = Retry::attempts(4)
        .backoff_factor(Duration::from_millis(100))
        .max_backoff(Duration::from_millis(300));
    assert_eq!((given.max_attempts(), waits(&given)), (4, vec![100, 200, 300]));
    let default = Retry::default();
    assert_eq!((default.max_attempts(), waits(&default)), (3, vec![500, 1000]));
    assert!(default.covers("any", &fmt::Error), "no error is named: each is tried again");
}

#[test]
fn a_policy_from_a_map_is_that_of_the_same_values() {
    let map =
        json!({"max_attempts": 4, "backoff_factor": 0.1, "max_backoff": 1.5, "retry_on": ["exit"]});
    let same = Retry::attempts(4)
        .backoff_factor(Duration::from_millis(100))
        .max_backoff(Duration::from_millis(1500))
        .on_kind("exit");
    assert_eq!(map.into_retry().unwrap(), same);
    assert_eq!(json!({}).into_retry().unwrap(), Retry::default());
    let slip = json!({"on": ["exit"]}).into_retry().unwrap_err();
    assert!(slip.advice().unwrap().contains("retry_on"), "{slip}");
}

#[test]
fn the_first_wait_is_the_factor_the_second_twice_that_and_none_is_above_the_most() {
    let retry = Retry::attempts(6).backoff_factor(Duration::from_millis(100));
    assert_eq!(waits(&retry.max_backoff(Duration::from_secs(1))), [100, 200, 400, 800, 1000]);
}

#[test]
fn a_policy_covers_the_errors_it_names_and_no_others() {
    let retry = Retry::attempts(2).on::<fmt::Error>();
    assert!(retry.covers("error", &fmt::Error));
    assert!(!retry.covers("error", &VarError::NotPresent));
}

#[test]
fn of_three_tries_the_third_is_the_last() {
    let retry = Retry::attempts(3);
    assert!(retry.wait_after(2).is_some() && retry.wait_after(3).is_none());
}

#[tokio::test]
async fn a_step_that_succeeds_is_called_once() {
    let (step, calls) = broken_for(0);
    assert_eq!(run(step).await.status(), Status::Success);
    assert_eq!(calls.load(Relaxed), 1);
}

#[tokio::test]
async fn a_step_that_fails_twice_and_then_works_is_called_three_times_and_leaves_its_value() {
    let (step, calls) = broken_for(2);
    let report = run(step).await;
    assert_eq!(*report.get::<String>("a").unwrap(), "works");
    assert_eq!((calls.load(Relaxed), report.steps()[0].tries), (3, 3));
}

#[tokio::test]
async fn a_step_that_never_works_ends_in_its_exception_after_exactly_three_calls() {
    let (step, calls) = broken_for(u32::MAX);
    let report = run(step).await;
    assert_eq!((report.status(), calls.load(Relaxed)), (Status::Exception, 3));
    assert_eq!(report.error().unwrap().line(), "broken");
}

#[tokio::test]
async fn a_no_and_an_exception_are_told_apart_and_each_is_told_once() {
    let report = run(fails("a").retry(Retry::attempts(3).backoff_factor(SOON))).await;
    assert_eq!((report.steps()[0].status, report.steps()[0].tries), (StepStatus::Failure, 1));
    assert_eq!(report.to_string().matches("no").count(), 1);
    let report = run(throws("a")).await;
    assert_eq!((report.steps()[0].status, report.steps()[0].tries), (StepStatus::Exception, 1));
    assert_eq!(report.to_string().matches("broken").count(), 1);
}

/// What the document's four states say of a group with so many that succeeded and failed.
#[tokio::test]
async fn the_four_states_judge_one_success_one_failure_and_one_of_each() {
    use Evaluation::{All, Any, NoneFailed, NotAllFailed};
    let table: HashMap<Evaluation, [bool; 3]> = HashMap::from([
        (All, [true, false, false]),
        (NoneFailed, [true, false, false]),
        (Any, [true, false, true]),
        (NotAllFailed, [true, false, true]),
    ]);
    for (state, expected) in table {
        let groups = [vec![says("a")], vec![fails("a")], vec![says("a"), throws("b")]];
        for (members, expected) in groups.into_iter().zip(expected) {
            let group = parallel(members).evaluate(state);
            let pipeline = Pipeline::new("p").step(group).step(says("end")).build().unwrap();
            let report = pipeline.run(store! {}).await;
            assert_eq!(report.status() == Status::Success, expected, "{state}: {report}");
            assert_eq!(path(&report).ends_with("end"), expected, "{state}: {report}");
        }
    }
}

#[tokio::test]
async fn a_report_has_each_step_once_in_order_and_finds_it_by_its_name() {
    let pipeline = Pipeline::new("p").lenient().step(says("b")).step(fails("a")).step(says("c"));
    let report = pipeline.build().unwrap().run(store! {}).await;
    let names: Vec<&str> = report.steps().iter().map(|step| &*step.name).collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert_eq!(report.step("a").unwrap().status, StepStatus::Failure);
    assert!(report.step("d").is_none());
    assert_eq!(*report.get::<String>("c").unwrap(), "c");
    assert!(report.get::<String>("a").is_err(), "a step that said no left nothing");
    assert!(report.get::<u8>("b").is_err(), "a value of another type is not had");
    assert!(report.get::<String>("d").unwrap_err().advice().unwrap().contains("b, c"));
    assert_eq!(report.to_string().lines().count(), 4);
}

#[tokio::test]
async fn a_value_in_a_failure_is_told_with_it() {
    let no = StepDef::fallible("a", |_| Err(Failure::new("no").value(json!({"at": [1]})).into()));
    let report = run(no).await;
    let found = Failure::find(&*report.into_result().unwrap_err()).unwrap();
    assert_eq!(found.found()["at"][0], 1);
}
