//! A pipeline in a line: order, values, retries, and a report that hides nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use async_trait::async_trait;
use railbus::{
    delivery::{Decision, End, FailurePolicy, IntoOutcome},
    error::ErrorKind,
    event::Event,
    pipeline::{Pipeline, RunError, RunReport, Status, StepDef, StepStatus},
    retry::Retry,
    step::{Exception, Failure, Flow, Input, Signature, Step, StepError, StepResult},
};
use serde_json::{Value, json};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// A step made of a function; counts how often it was called.
struct Do<F>(F, AtomicU32);

impl<F> fmt::Debug for Do<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Do")
    }
}

#[async_trait]
impl<F: Fn(Input<'_>) -> StepResult + Send + Sync + 'static> Step for Do<F> {
    fn signature(&self) -> Signature {
        Signature::new("do")
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        self.1.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        (self.0)(input)
    }
}

fn step<F>(name: &str, work: F) -> (StepDef, Arc<Do<F>>)
where
    F: Fn(Input<'_>) -> StepResult + Send + Sync + 'static,
{
    let step = Arc::new(Do(work, AtomicU32::new(0)));
    (StepDef::new(name, Arc::clone(&step) as Arc<dyn Step>), step)
}

fn calls<F>(step: &Do<F>) -> u32 {
    step.1.load(Ordering::SeqCst)
}

fn exception(kind: &str, message: &str) -> StepResult {
    Err(StepError::Exception(Exception::new(kind, message)))
}

fn retry(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff_factor(Duration::from_secs(1))
}

fn event() -> Event {
    Event::new("order.placed").payload(json!({"n": 1}))
}

async fn run<const N: usize>(steps: [StepDef; N]) -> RunReport {
    let builder = steps.into_iter().fold(Pipeline::new("fulfil"), |b, step| b.step(step));
    builder.build().unwrap().run_event(&event(), 1).await
}

fn value(report: &RunReport, name: &str) -> Value {
    report.store().value(name).and_then(|value| value.value()).cloned().unwrap()
}

fn statuses(report: &RunReport) -> Vec<(&str, StepStatus, u32)> {
    report.steps().iter().map(|s| (&*s.name, s.status, s.tries)).collect()
}

#[tokio::test]
async fn steps_run_in_order_and_see_the_values_before_them() {
    let (a, _) =
        step("a", |input| Ok(Flow::next(input.event().unwrap().get::<Value>("n").unwrap())));
    let (b, _) = step("b", |_| Ok(Flow::Next(None)));
    let (c, _) = step("c", |input| {
        assert!(!input.store().has("b"));
        Ok(Flow::next(json!(*input.get::<i64>("a").unwrap() + 1)))
    });
    let report = run([a, b, c]).await;
    assert_eq!(report.status(), Status::Success);
    assert!(report.error().is_none());
    assert_eq!(Value::Object(report.store().as_map().unwrap()), json!({"a": 1, "c": 2}));
    let done = StepStatus::Success;
    assert_eq!(statuses(&report), [("a", done, 1), ("b", done, 1), ("c", done, 1)]);
    assert!(report.into_result().is_ok());
}

#[tokio::test]
async fn a_failure_ends_the_run_and_no_policy_tries_it_again() {
    let (a, _) = step("a", |_| Ok(Flow::next(json!(1))));
    let no = || Failure::new("card declined").value(json!({"code": 51}));
    let (b, b_calls) = step("b", move |_| Err(StepError::Failure(no())));
    let (c, c_calls) = step("c", |_| Ok(Flow::Next(None)));
    let report = run([a, b.retry(retry(5)), c]).await;
    assert_eq!(report.status(), Status::Failure);
    assert_eq!((calls(&b_calls), calls(&c_calls)), (1, 0));
    assert_eq!(
        statuses(&report),
        [
            ("a", StepStatus::Success, 1),
            ("b", StepStatus::Failure, 1),
            ("c", StepStatus::NotRun, 0)
        ]
    );
    assert_eq!(value(&report, "a"), json!(1));
    assert_eq!(report.steps()[1].error.as_deref(), Some("card declined"));
    let error = report.into_result().unwrap_err();
    assert_eq!(error.to_string(), "step b: card declined");
    assert_eq!(error.source().and_then(|e| e.downcast_ref::<Failure>()), Some(&no()));
    // The subscription's policy has tries left, and does not use them.
    let decision = FailurePolicy::for_group().decide(Err::<(), _>(error).into_outcome(), 1);
    assert_eq!(decision, Decision::End(End::Dead("step b: card declined".into())));
}

#[tokio::test(start_paused = true)]
async fn an_exception_is_tried_again_with_doubling_waits_until_it_succeeds() {
    let start = Instant::now();
    let (a, a_calls) = step("a", |input| match input.step_try() {
        1 | 2 => exception("exit", "status 1"),
        n => Ok(Flow::next(json!([n, input.attempt()]))),
    });
    let pipeline = Pipeline::new("p").step(a.retry(retry(4))).build().unwrap();
    let report = pipeline.run_event(&event(), 7).await;
    assert_eq!(report.status(), Status::Success);
    assert_eq!(start.elapsed(), Duration::from_secs(1 + 2));
    assert_eq!(calls(&a_calls), 3);
    assert_eq!(statuses(&report), [("a", StepStatus::Success, 3)]);
    assert_eq!(report.steps()[0].duration, Duration::from_secs(3));
    assert_eq!(report.steps()[0].error, None);
    assert_eq!(value(&report, "a"), json!([3, 7]));
}

#[tokio::test(start_paused = true)]
async fn the_last_try_is_not_waited_after_and_its_exception_ends_the_run() {
    let start = Instant::now();
    let (a, _) = step("a", |input| exception("exit", &format!("status {}", input.step_try())));
    let (b, b_calls) = step("b", |_| Ok(Flow::Next(None)));
    let report = run([a.retry(retry(3)), b]).await;
    assert_eq!(report.status(), Status::Exception);
    assert_eq!(start.elapsed(), Duration::from_secs(1 + 2));
    assert_eq!(calls(&b_calls), 0);
    assert_eq!(statuses(&report), [("a", StepStatus::Exception, 3), ("b", StepStatus::NotRun, 0)]);
    let error = report.into_result().unwrap_err();
    assert_eq!(error.to_string(), "step a: exit: status 3");
    let error = error.downcast::<RunError>().unwrap();
    assert_eq!((error.pipeline(), error.step()), ("fulfil", Some("a")));
    assert_eq!(error.kind(), Some("exit"));
    // Unlike a failure, it is worth another delivery.
    let decision = FailurePolicy::for_group().decide(Err::<(), _>(*error).into_outcome(), 1);
    assert!(matches!(decision, Decision::Again(..)), "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_an_exception_is_not_tried_again() {
    let (a, a_calls) = step("a", |input| match input.step_try() {
        1 => exception("exit", "status 1"),
        _ => Err(StepError::Failure(Failure::new("no"))),
    });
    let report = run([a.retry(retry(9))]).await;
    assert_eq!((report.status(), calls(&a_calls)), (Status::Failure, 2));
}

#[tokio::test]
async fn without_a_retry_a_step_runs_once() {
    let (a, a_calls) = step("a", |_| exception("timeout", "after 5m"));
    let report = run([a]).await;
    assert_eq!((report.status(), calls(&a_calls)), (Status::Exception, 1));
    assert_eq!(report.steps()[0].error.as_deref(), Some("timeout: after 5m"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_exception_and_may_be_tried_again() {
    let (a, _) = step("a", |input| match input.step_try() {
        1 => panic!("no {}", "luck"),
        2 => panic!("none at all"),
        3 => std::panic::panic_any(7),
        _ => Ok(Flow::Next(None)),
    });
    let (def, counted) = (a.clone().retry(retry(4)), a);
    assert_eq!(run([def]).await.status(), Status::Success);
    let report = run([counted]).await;
    assert_eq!(report.status(), Status::Exception);
    assert_eq!(report.steps()[0].error.as_deref(), Some("panic: no luck"));
    let Some(StepError::Exception(exception)) = report.error() else { panic!("{report}") };
    assert_eq!(exception.kind, "panic");
}

/// Panics before there is a future to poll.
#[derive(Debug)]
struct Eager;

impl Step for Eager {
    fn signature(&self) -> Signature {
        Signature::new("eager")
    }

    fn run<'a, 'b, 'c>(
        &'a self,
        _: Input<'b>,
    ) -> std::pin::Pin<Box<dyn Future<Output = StepResult> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        panic!("too early")
    }
}

#[tokio::test]
async fn a_panic_outside_the_future_is_contained_too() {
    let report = run([StepDef::new("a", Arc::new(Eager))]).await;
    assert_eq!(report.steps()[0].error.as_deref(), Some("panic: too early"));
}

#[tokio::test]
async fn an_error_with_causes_is_told_with_them_once() {
    let (a, _) = step("a", |_| {
        let io = std::io::Error::other("disk gone");
        Err(railbus::error::Error::new(ErrorKind::Full, "write", "can't").because(io).into())
    });
    let error = run([a]).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "step a: error: write: can't: disk gone");
    assert_eq!(railbus::error::chain(&*error), error.to_string());
    // Whoever chooses by type finds the cause in the chain.
    let cause = error.source().and_then(|e| e.downcast_ref::<railbus::error::Error>());
    assert_eq!(cause.map(railbus::error::Error::kind), Some(ErrorKind::Full));
}

#[tokio::test]
async fn the_text_of_a_report_has_one_line_a_step_and_every_failure() {
    let (a, _) = step("a", |_| Ok(Flow::Next(None)));
    let (b, _) = step("b", |_| exception("exit", "status 1: line one\n\tline two\u{1b}[2J\n"));
    let (c, _) = step("c", |_| Ok(Flow::Next(None)));
    let text = run([a, b, c]).await.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[0], "fulfil: exception");
    assert!(lines[1].starts_with("  a: success, 1 try, 0."), "{text}");
    assert!(lines[2].starts_with("  b: exception, 1 try, 0."), "{text}");
    let tail = r"exit: status 1: line one\n\tline two\u{1b}[2J";
    assert!(lines[2].ends_with(tail), "{text}");
    assert_eq!(lines[3], "  c: not_run");
}

#[tokio::test]
async fn runs_of_one_pipeline_share_no_values() {
    let (a, _) = step("a", |input| {
        assert!(input.store().is_empty());
        Ok(Flow::next(input.event().unwrap().get::<Value>("n").unwrap()))
    });
    let pipeline = Pipeline::new("p").step(a).build().unwrap();
    let events = [1, 2, 3].map(|n| Event::new("t").payload(json!({ "n": n })));
    let runs = events.iter().map(|event| pipeline.run_event(event, 1));
    for (i, report) in futures_util::future::join_all(runs).await.into_iter().enumerate() {
        assert_eq!(value(&report, "a"), json!(i + 1));
    }
}

#[test]
fn a_pipeline_that_can_not_work_is_not_built() {
    let nothing = |name: &str| step(name, |_| Ok(Flow::Next(None))).0;
    let cases = [
        (Pipeline::new("p"), "a pipeline needs a step"),
        (Pipeline::new("p").step(nothing("a")).step(nothing("a")), "step `a` comes twice"),
        (Pipeline::new("p").step(nothing("a b")), "`a b` is not a name"),
        (Pipeline::new("p").step(nothing("")), "`` is not a name"),
        (Pipeline::new("1p").step(nothing("a")), "`1p` is not a name"),
    ];
    for (builder, why) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Config, why));
        assert!(error.advice().is_some(), "{error}");
    }
}
