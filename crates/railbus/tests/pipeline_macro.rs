//! Functions and structs with `#[step]`: what they take, what they leave, how they end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Context, Event, Failure, Flow, IntoStep, Pipeline, Retry, RunReport, State, Status, StepResult,
    Store, Value, json,
    pipeline::StepStatus,
    step,
    step::{Exception, Goto, Input, Opaque, Ran, Step, StepError},
    store,
};
use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, ThreadId},
    time::Duration,
};

#[step(name = "Load", output = "data")]
fn load() -> Vec<i64> {
    vec![1, 2, 3]
}

/// Sums.
#[step]
fn sum(data: &[i64]) -> i64 {
    data.iter().sum()
}

async fn run<M>(step: impl IntoStep<M>, store: Store) -> RunReport {
    Pipeline::new("p").step(step).build().unwrap().run(store).await
}

#[tokio::test]
async fn a_functions_arguments_are_its_needs_and_its_value_goes_by_its_name() {
    let pipeline = Pipeline::new("p").step(load).step(sum).build().unwrap();
    assert_eq!(pipeline.steps().collect::<Vec<_>>(), ["Load", "sum"]);
    let report = pipeline.run(store! {}).await;
    assert_eq!(report.store().to_json().unwrap(), r#"{"data":[1,2,3],"sum":6}"#);
    assert_eq!(sum::call(&[4, 5]), 9);
    assert_eq!(sum {}.signature().all_needs()[0].name, "data");
}

#[tokio::test]
async fn a_step_is_renamed_and_bound_where_it_is_used() {
    let again = sum.bind("data", "raw").named("again").retry(Retry::attempts(2));
    let both = Pipeline::new("p").step(load).step(sum).step(again.output("total"));
    let report = both.build().unwrap().run(store! { "raw" => vec![5i64] }).await;
    let all = r#"{"raw":[5],"data":[1,2,3],"sum":6,"total":5}"#;
    assert_eq!(report.store().to_json().unwrap(), all);
}

#[step]
fn shown(text: &str, n: u8, list: Vec<u8>, map: &Value, mut owned: String) -> String {
    owned.push_str(text);
    format!("{owned} {n} {list:?} {map}")
}

#[step]
fn maybe(
    text: Option<&str>,
    list: Option<&[u8]>,
    n: Option<u8>,
    value: Option<&Value>,
) -> [bool; 4] {
    [text.is_some(), list.is_some(), n.is_some(), value.is_some()]
}

#[tokio::test]
async fn values_are_taken_by_reference_or_by_value_as_text_list_and_option() {
    // A `&'static str` and an array of numbers are decoded, since they were not left as what is taken.
    let store =
        store! { "text" => "a", "n" => 1, "list" => [1, 2], "map" => json!({}), "owned" => "b" };
    let report = run(shown, store).await;
    assert_eq!(*report.get::<String>("shown").unwrap(), "ba 1 [1, 2] {}");

    let nothing = run(maybe, store! { "n" => Value::Null, "list" => None::<Vec<u8>> }).await;
    assert_eq!(*nothing.get::<[bool; 4]>("maybe").unwrap(), [false; 4]);
    let all = store! { "text" => "a", "list" => Some(vec![1u8]), "n" => 1u8, "value" => json!(0) };
    let all = run(maybe, all).await;
    assert_eq!(*all.get::<[bool; 4]>("maybe").unwrap(), [true; 4]);
    let wrong = run(maybe, store! { "n" => "x" }).await;
    assert_eq!(wrong.status(), Status::Exception);
}

#[step]
fn find(n: u8) -> Option<String> {
    (n > 0).then(|| "found".into())
}

#[step]
fn after(find: Option<&str>) -> bool {
    find.is_some()
}

#[tokio::test]
async fn an_option_that_a_step_leaves_is_one_that_the_next_may_take() {
    let pipeline = Pipeline::new("p").step(find).step(after).build().unwrap();
    for n in [0u8, 1] {
        let report = pipeline.run(store! { "n" => n }).await;
        assert_eq!(*report.get::<bool>("after").unwrap(), n == 1, "{report}");
    }
}

#[step]
fn thread_of(handle: &Opaque<ThreadId>) -> Opaque<bool> {
    Opaque(handle.0 == thread::current().id())
}

#[tokio::test]
async fn what_can_not_be_encoded_is_passed_on_wrapped_and_uncopied() {
    let report = run(thread_of, store! { "handle" => Opaque(thread::current().id()) }).await;
    assert!(report.get::<Opaque<bool>>("thread_of").unwrap().0, "{report}");
}

#[step]
async fn counted(count: State<AtomicU32>, by: u32, input: Input<'_>) -> (u32, u32) {
    tokio::task::yield_now().await;
    (count.fetch_add(by, Ordering::Relaxed), input.step_try())
}

#[tokio::test]
async fn a_step_takes_state_and_a_pipeline_without_it_is_not_built() {
    let error = Pipeline::new("p").step(counted).build().unwrap_err();
    assert!(error.to_string().contains("State<core::sync::atomic::Atomic"), "{error}");
    let pipeline = Pipeline::new("p").state(AtomicU32::new(7)).step(counted).build().unwrap();
    let report = pipeline.run(store! { "by" => 2u32 }).await;
    assert_eq!(*report.get::<(u32, u32)>("counted").unwrap(), (7, 1));
    let (state, store, parts) = (State::new(AtomicU32::new(1)), store! {}, Default::default());
    assert_eq!(counted::call(state, 1, Input::of(&store, &parts)).await, (1, 1));
}

#[step]
fn caused(event: &Event, owned: Event, context: Context, maybe: Option<Event>) -> String {
    assert_eq!((event.id(), context.id()), (owned.id(), maybe.unwrap().id()));
    event.event_type().to_owned()
}

#[step]
fn perhaps_caused(event: Option<&Event>) -> bool {
    event.is_some()
}

#[tokio::test]
async fn a_step_takes_the_event_that_caused_the_run() {
    let pipeline = Pipeline::new("p").step(caused).build().unwrap();
    assert_eq!(pipeline.inputs().count(), 0);
    let event = Event::new("order.placed").payload(1);
    let report = pipeline.run_event(&event, 1).await;
    assert_eq!(*report.get::<String>("caused").unwrap(), "order.placed", "{report}");
    let report = pipeline.run(store! {}).await;
    let Some(StepError::Exception(none)) = report.error() else { panic!("{report}") };
    assert_eq!(none.kind, "event");
    assert!(!*run(perhaps_caused, store! {}).await.get::<bool>("perhaps_caused").unwrap());
}

#[step]
fn nothing(order: &str) {
    assert!(!order.is_empty());
}

#[step]
fn checked(order: &str) -> Result<(), Failure> {
    if order.is_empty() { Err(Failure::new("empty")) } else { Ok(()) }
}

#[step]
fn flow(n: u8) -> StepResult {
    match n {
        0 => Ok(Flow::Skip),
        1 => Ok(Flow::stop(8)),
        2 => Err(Failure::new("two").into()),
        3 => Err(StepError::Exception(Exception::new("three", "3"))),
        _ => Ok(Flow::next(n)),
    }
}

#[step]
fn text() -> &'static str {
    "a text"
}

#[step]
fn parsed(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

#[step]
fn read(path: String) -> io::Result<u8> {
    Err(io::Error::other(path))
}

#[step]
fn hidden() -> impl serde::Serialize {
    7
}

#[step]
fn gives_up(order: &str) -> ! {
    panic!("no {order}")
}

#[step(name = "waits")]
async fn gives_up_later() -> ! {
    std::future::ready(()).await;
    panic!("too late")
}

#[tokio::test]
async fn a_step_may_never_return() {
    for (report, why) in [
        (run(gives_up, store! { "order" => "x" }).await, "panic: no x"),
        (run(gives_up_later, store! {}).await, "panic: too late"),
    ] {
        assert_eq!(report.steps()[0].error.as_deref(), Some(why));
    }
}

#[tokio::test]
async fn steps_return_values_flows_nothing_and_results_of_them() {
    let ok = store! { "order" => "x", "n" => 9u8 };
    let report = Pipeline::new("p").step(nothing).step(checked).step(flow).step(hidden);
    let report = report.build().unwrap().run(ok).await;
    assert_eq!(report.store().to_json().unwrap(), r#"{"order":"x","n":9,"flow":9,"hidden":7}"#);

    assert_eq!(run(checked, store! { "order" => "" }).await.status(), Status::Failure);
    for (n, status) in [
        (0, Status::Success),
        (1, Status::Stopped),
        (2, Status::Failure),
        (3, Status::Exception),
        (4, Status::Success),
    ] {
        let report = run(flow, store! { "n" => n }).await;
        assert_eq!(report.status(), status, "{n}: {report}");
    }
    // A Result whose parts could be stored is a Result all the same.
    let pipeline = Pipeline::new("p").step(text).step(parsed).build().unwrap();
    let report = pipeline.run(store! {}).await;
    assert_eq!(report.steps()[1].error.as_deref(), Some("error: no number: a text"));
    let report = run(read, store! { "path" => "gone" }).await;
    assert_eq!(report.steps()[0].error.as_deref(), Some("error: gone"));
}

#[step]
fn reserve() -> anyhow::Result<u8> {
    Err(Failure::new("sold out").value(json!({"left": 0})))?
}

#[step]
async fn wrapped() -> anyhow::Result<u8> {
    use anyhow::Context as _;
    reserve::call().context("while reserving").context("in the shop")
}

#[tokio::test]
async fn a_failure_wrapped_in_anyhow_stays_one_and_is_not_tried_again() {
    for report in [
        run(reserve.retry(Retry::attempts(3)), store! {}).await,
        run(wrapped.retry(Retry::attempts(3)), store! {}).await,
    ] {
        let Some(StepError::Failure(failure)) = report.error() else { panic!("{report}") };
        assert_eq!((failure.message(), failure.found()), ("sold out", &json!({"left": 0})));
        assert_eq!(report.steps()[0].tries, 1);
    }
}

#[step(goto = [premium, "regular"])]
fn classify(kind: &str) -> Result<Goto, StepError> {
    Ok(Flow::goto(kind, 1).reason("asked"))
}

#[step(name = "premium-orders")]
fn premium() {}

#[test]
fn a_signature_says_name_needs_outputs_and_targets() {
    let signature = classify {}.signature();
    assert_eq!(signature.targets(), ["premium-orders", "regular"]);
    let load = load {}.signature();
    assert_eq!((load.name(), load.output_name()), ("Load", "data"));
    let maybe = maybe {}.signature();
    let needs: Vec<_> = maybe.all_needs().iter().map(|n| (&*n.name, n.optional)).collect();
    assert_eq!(needs, [("text", true), ("list", true), ("n", true), ("value", true)]);
}

#[test]
fn types_that_do_not_fit_are_told_when_the_pipeline_is_built() {
    let error = Pipeline::new("p").step(text).step(sum.bind("data", "text")).build().unwrap_err();
    let why =
        "`text` is a alloc::string::String of step `text`, but is needed as a alloc::vec::Vec<i64>";
    assert_eq!((error.message(), error.kind()), (why, railbus::ErrorKind::Config));
    let error =
        Pipeline::new("p").step(load).step(premium).step(sum.bind("data", "premium-orders"));
    let error = error.build().unwrap_err();
    assert!(error.message().starts_with("`premium-orders` is a () of step"), "{error}");
    // What goes by the name of a step that leaves nothing stays what it was.
    let named = checked.named("order").output("order");
    assert!(Pipeline::new("p").input::<String>("order").step(named).step(nothing).build().is_ok());
}

#[test]
fn a_sync_step_is_through_when_its_call_returns() {
    let (store, parts) = (store! { "data" => vec![1i64] }, Default::default());
    let input = Input::of(&store, &parts);
    assert!(matches!(sum {}.call(input), Ran::Now(Ok(Flow::Next(Some(_))))));
    assert!(matches!(wrapped {}.call(input), Ran::Later(_)));
}

#[step(retry = json!({"max_attempts": 2, "backoff_factor": 0}), stop_on_exception = false)]
fn flaky(input: Input<'_>) -> Result<u32, io::Error> {
    Err(io::Error::other(format!("try {}", input.step_try())))
}

#[step(stop_on_success)]
fn last() -> u8 {
    1
}

#[tokio::test]
async fn settings_hold_wherever_the_step_is_used_and_a_use_overrules_them() {
    let steps = || Pipeline::new("p").step(flaky).step(last).step(text).build().unwrap();
    let report = steps().run(store! {}).await;
    let all: Vec<_> = report.steps().iter().map(|s| (s.status, s.tries)).collect();
    let expected = [(StepStatus::Exception, 2), (StepStatus::Success, 1), (StepStatus::NotRun, 0)];
    assert_eq!(all, expected);
    let report = run(flaky.retry(Retry::attempts(1)), store! {}).await;
    assert_eq!(report.steps()[0].tries, 1);
    let bad = flaky.retry(json!({"max_attempt": 2}));
    assert!(Pipeline::new("p").step(bad).build().is_err());
}

#[step(timeout = Duration::from_millis(1), stop_on_exception = false)]
fn late(wait: u64) -> u64 {
    // sleep: a step that blocks is what is tried.
    thread::sleep(Duration::from_millis(wait));
    wait
}

#[tokio::test]
async fn a_step_that_nobody_could_cut_off_is_late_all_the_same() {
    let report = run(late, store! { "wait" => 5_u64 }).await;
    let error = report.error().unwrap();
    assert_eq!((error.kind(), error.line().as_str()), ("timeout", "it took longer than 1ms"));
    assert!(report.store().value("late").is_none());
    let in_time = run(late.timeout(Duration::from_secs(60)), store! { "wait" => 0_u64 }).await;
    assert_eq!(in_time.status(), Status::Success, "{in_time}");
}

#[step(blocking)]
fn elsewhere() -> Opaque<ThreadId> {
    Opaque(thread::current().id())
}

#[step]
fn here() -> Opaque<ThreadId> {
    Opaque(thread::current().id())
}

#[tokio::test]
async fn a_blocking_step_runs_on_another_thread_and_others_do_not() {
    for (report, name, same) in [
        (run(elsewhere, store! {}).await, "elsewhere", false),
        (run(here, store! {}).await, "here", true),
        (run(here.blocking(), store! {}).await, "here", false),
    ] {
        let ran_on = report.get::<Opaque<ThreadId>>(name).unwrap().0;
        assert_eq!(ran_on == thread::current().id(), same, "{name}");
    }
}
