//! Stop conditions, jumps, bypasses, executors and pipelines as a whole, in pipelines by default
//! and in lenient ones.

use crate::{fails, path, refused, says, throws};
use railbus::{
    Cancel, Evaluation, Flow, IntoStep, Pipeline, Retry, RunReport, Status, StepDef, StepError,
    Steps, Value,
    executors::Threads,
    json, parallel,
    pipeline::{StepStatus, StopReason},
    step, store,
};
use std::time::Duration;

fn pipeline(lenient: bool) -> railbus::PipelineBuilder {
    let new = Pipeline::new("p");
    if lenient { new.lenient() } else { new }
}

async fn stops(step: StepDef, lenient: bool) -> (String, Status, Option<StopReason>) {
    let built = pipeline(lenient).step(step).step(says("next")).build().unwrap();
    let report = built.run(store! {}).await;
    (path(&report), report.status(), report.stopped().map(|(_, why)| why))
}

#[tokio::test]
async fn the_documents_failure_ends_a_run_where_it_is_to_stop_on_error() {
    for lenient in [false, true] {
        let ended = stops(fails("a").stop_on_error(true), lenient).await;
        assert_eq!(ended, ("a".into(), Status::Failure, Some(StopReason::Failure)));
        let ended = stops(says("a").stop_on_error(true), lenient).await;
        assert_eq!(ended, ("a next".into(), Status::Success, None));
        let ended = stops(fails("a").stop_on_error(false), lenient).await;
        assert_eq!(ended, ("a next".into(), Status::Failure, None));
    }
    assert_eq!(stops(fails("a"), false).await.0, "a");
    assert_eq!(stops(fails("a"), true).await.0, "a next");
}

#[tokio::test]
async fn an_exception_ends_a_run_where_it_is_to_stop_on_exception_after_its_last_try() {
    let soon = Retry::attempts(2).backoff_factor(Duration::from_millis(1));
    for lenient in [false, true] {
        let step = throws("a").retry(soon.clone()).stop_on_exception(true);
        let built = pipeline(lenient).step(step).step(says("next")).build().unwrap();
        let report = built.run(store! {}).await;
        assert_eq!(report.stopped(), Some(("a", StopReason::Exception)));
        assert_eq!((report.steps()[0].tries, report.status()), (2, Status::Exception));
        // A no is no exception.
        let ended = stops(fails("a").stop_on_exception(true).stop_on_error(false), lenient).await;
        assert_eq!(ended, ("a next".into(), Status::Failure, None));
    }
}

#[tokio::test]
async fn a_success_that_ends_a_run_is_told_as_a_success() {
    for lenient in [false, true] {
        let built = pipeline(lenient).step(says("a").stop_on_success(true)).step(says("next"));
        let report = built.build().unwrap().run(store! {}).await;
        assert_eq!(report.steps()[0].status, StepStatus::Success);
        assert_eq!(report.stopped(), Some(("a", StopReason::Success)));
        assert_eq!((report.status(), path(&report).as_str()), (Status::Stopped, "a"));
        assert!(report.error().is_none() && report.into_result().is_ok());
    }
}

#[step(goto = [process_premium])]
fn classify(data: &Value) -> Result<Flow, StepError> {
    let jump = Flow::goto("process_premium", data.clone());
    Ok(match data["kind"].as_str() {
        Some("premium") => jump.reason("Premium user detected").into(),
        Some("manual") => jump.into(),
        Some("failed") => jump.failed().into(),
        Some("lost") => Flow::goto("notify", 1).into(),
        _ => Flow::next("regular"),
    })
}

#[step]
fn process_premium(account: &Value) -> String {
    account["kind"].to_string()
}

async fn goto(kind: &str, lenient: bool) -> RunReport {
    let built = pipeline(lenient).step(classify).on_label("premium", process_premium);
    let data = json!({ "kind": kind });
    built.step(says("notify")).build().unwrap().run(store! { "data" => data }).await
}

#[tokio::test]
async fn a_jump_is_told_with_target_status_value_and_reason() {
    for lenient in [false, true] {
        let report = goto("premium", lenient).await;
        assert_eq!(path(&report), "classify process_premium notify");
        let row = report.step("classify").unwrap();
        let jump = row.goto.clone().unwrap();
        assert_eq!((&*jump.to, jump.reason.as_str()), ("process_premium", "Premium user detected"));
        assert_eq!((row.status, row.tries), (StepStatus::Success, 1));
        assert_eq!(*report.get::<String>("process_premium").unwrap(), "\"premium\"");
        assert_eq!(report.get::<Value>("classify").unwrap()["kind"], "premium");
        let report = goto("manual", lenient).await;
        assert_eq!(report.step("classify").unwrap().goto.clone().unwrap().reason, "manual");
        assert_eq!(path(&goto("regular", lenient).await), "classify notify");
    }
}

#[tokio::test]
async fn a_jump_of_a_step_that_failed_is_told_as_a_failure() {
    for lenient in [false, true] {
        let report = goto("failed", lenient).await;
        let row = report.step("classify").unwrap();
        assert_eq!(row.status, StepStatus::Failure, "{report}");
        assert!(row.goto.is_some(), "{report}");
        // The jump sees to it, as a branch for failures does.
        assert_eq!((report.status(), report.stopped()), (Status::Success, None));
        assert_eq!(path(&report), "classify process_premium notify");
    }
}

#[tokio::test]
async fn a_jump_to_what_was_not_declared_is_an_exception_that_a_lenient_run_survives() {
    for (lenient, way) in [(false, "classify"), (true, "classify notify")] {
        let report = goto("lost", lenient).await;
        assert_eq!((path(&report).as_str(), report.status()), (way, Status::Exception));
        assert_eq!(report.error().unwrap().kind(), "flow");
    }
    let nowhere = Pipeline::new("p").step(classify).step(says("notify"));
    assert!(refused(nowhere).contains("it may jump to `process_premium`, which is no step here"));
}

struct UserValidation;

#[step]
impl UserValidation {
    fn can_bypass(&self, user_role: &str) -> Option<Value> {
        (user_role == "admin").then(|| json!({"bypass_reason": "Admin users skip validation"}))
    }

    fn run(&self, user_role: &str) -> Result<Value, StepError> {
        Ok(json!({ "valid": user_role }))
    }
}

#[step]
fn after(given: &Value) -> Value {
    given.clone()
}

#[tokio::test]
async fn a_step_that_is_passed_by_hands_its_data_on_bare() {
    for lenient in [false, true] {
        let built = pipeline(lenient).step(UserValidation).pipe(after).build().unwrap();
        let report = built.run(store! { "user_role" => "admin" }).await;
        let bare = json!({"bypass_reason": "Admin users skip validation"});
        assert_eq!(*report.get::<Value>("after").unwrap(), bare);
        let row = &report.steps()[0];
        assert_eq!(
            (row.status, row.tries, report.status()),
            (StepStatus::Skipped, 0, Status::Success)
        );
        let report = built.run(store! { "user_role" => "user" }).await;
        assert_eq!(report.get::<Value>("after").unwrap()["valid"], "user");
    }
}

#[step]
fn thread_name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_pool_has_defaults_and_keeps_what_it_is_given_as_a_value_and_as_a_map() {
    let pool = Threads::new(2).max_tasks_per_child(3).thread_name_prefix("seed_nexus_");
    let map = json!({"kind": "threads", "max_workers": 2, "max_tasks_per_child": 3,
                     "thread_name_prefix": "seed_nexus_"});
    let pools = [thread_name.executor(pool), thread_name.executor(map)];
    for (step, prefix) in pools.into_iter().map(|step| (step, "seed_nexus_")).chain([
        (thread_name.executor(Threads::default()), "railbus-"),
        (thread_name.executor(json!({"kind": "threads"})), "railbus-"),
    ]) {
        let report = Pipeline::new("p").step(step).build().unwrap().run(store! {}).await;
        assert!(report.get::<String>("thread_name").unwrap().starts_with(prefix), "{report}");
    }
    let slip = thread_name.executor(json!({"kind": "threads", "max_worker": 2}));
    assert!(refused(Pipeline::new("p").step(slip)).contains("`max_worker` is not a key"));
}

#[cfg(feature = "processes")]
#[test]
fn a_step_for_processes_must_be_one_that_workers_know() {
    let step = thread_name.executor(railbus::executors::Processes::new(1));
    let error = Pipeline::new("p").step(step).build().unwrap_err();
    assert!(error.advice().unwrap().contains("worker::init"), "{error}");
}

#[tokio::test]
async fn a_pipeline_runs_as_often_as_it_is_asked_to_and_each_run_is_one_of_its_own() {
    let built = Pipeline::new("p").input::<String>("a").step(after.bind("given", "a"));
    let built = built.build().unwrap();
    assert_eq!(built.inputs().collect::<Vec<_>>(), ["a"]);
    assert_eq!(built.steps().collect::<Vec<_>>(), ["after"]);
    for text in ["x", "y"] {
        let report = built.run(store! { "a" => text }).await;
        assert_eq!(*report.get::<String>("after").unwrap(), text);
    }
    let report = built.run(store! {}).await;
    assert!(report.to_string().contains("`a`") && report.status() == Status::Exception);
}

#[tokio::test]
async fn a_step_by_a_name_that_comes_twice_or_is_not_there_is_refused() {
    let steps = Steps::new().add(says("a")).add(says("a"));
    assert!(refused(crate::flow("a", &steps)).contains("`a` comes twice in a set"));
    let steps = Steps::new().add(says("a"));
    let error = crate::flow("a -> b", &steps).build().unwrap_err();
    assert!(error.to_string().contains("there is no step `b`"), "{error}");
}

#[tokio::test]
async fn values_of_another_type_are_refused_where_they_are_known_and_told_where_not() {
    let wants = StepDef::value("wants", |_| 1).needs::<u32>("a");
    let built = Pipeline::new("p").input::<String>("a").step(wants);
    assert!(refused(built).contains("`a`"));
    let wants = StepDef::fallible("wants", |input| Ok(Flow::next(*input.get::<u32>("a")?)));
    let built = Pipeline::new("p").input::<u32>("a").step(wants.needs::<u32>("a"));
    let report = built.build().unwrap().run(store! { "a" => "text" }).await;
    assert_eq!(report.status(), Status::Exception, "{report}");
}

#[test]
fn a_graph_is_drawn_with_labels_on_its_branches_and_its_groups_in_boxes() {
    let steps = Steps::new().add(says("A")).add(says("B")).add(says("C")).add(says("D"));
    let dot = crate::flow("A(0 -> B, 1 -> C) -> D", &steps).build().unwrap().dot();
    assert!(dot.starts_with("digraph \"p\" {"), "{dot}");
    assert!(dot.contains("label=\"0\"") && dot.contains("label=\"1\""), "{dot}");
    let dot = crate::flow("{A || B} -> C", &steps).build().unwrap().dot();
    assert!(["A", "B", "C"].iter().all(|name| dot.contains(&format!("label=\"{name}\""))), "{dot}");
}

#[tokio::test]
async fn cancelling_before_a_run_leaves_nothing_to_do_and_after_it_changes_nothing() {
    let built = Pipeline::new("p").step(says("a")).build().unwrap();
    let cancel = Cancel::new();
    let report = built.run(store! {}).cancel_on(&cancel).await;
    cancel.cancel();
    assert_eq!((report.status(), path(&report).as_str()), (Status::Success, "a"));
    let report = built.run(store! {}).cancel_on(&cancel).await;
    assert_eq!((report.status(), path(&report).as_str()), (Status::Cancelled, ""));
}

#[tokio::test]
async fn a_member_that_ends_the_run_does_so_once_its_group_is_through() {
    for lenient in [false, true] {
        let group = parallel((says("a").stop_on_success(true), says("b")));
        let built = pipeline(lenient).step(group).step(says("next")).build().unwrap();
        let report = built.run(store! {}).await;
        assert_eq!((path(&report).as_str(), report.status()), ("a b", Status::Stopped));
        assert_eq!(report.stopped(), Some(("a", StopReason::Success)));
    }
    // What a member fails of is the group's: it succeeds, and the run goes on.
    let group = parallel((fails("a"), says("b"))).evaluate(Evaluation::Any);
    let report = pipeline(false).step(group).step(says("next")).build().unwrap().run(store! {});
    let report = report.await;
    assert_eq!((path(&report).as_str(), report.status()), ("a b next", Status::Success));
    // And a group has flags of its own.
    let group = parallel((fails("a"), says("b"))).stop_on_error(false);
    let report = pipeline(false).step(group).step(says("next")).build().unwrap().run(store! {});
    let report = report.await;
    assert_eq!((path(&report).as_str(), report.status()), ("a b next", Status::Failure));
}
