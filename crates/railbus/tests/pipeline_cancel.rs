//! Limits of time and cancelling: what is cut off, what is kept, and who the report says it was.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Cancel, Evaluation, Failure, Flow, IntoStep, Pipeline, Retry, RunReport, Status, StepDef,
    chain,
    delivery::{Decision, FailurePolicy, IntoOutcome},
    each,
    executors::Blocking,
    parallel,
    pipeline::{CancelReason, StepStatus},
    repeat, step,
    step::{Input, Signature, Step, StepResult},
    store,
};
use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);

/// Counts how often it was dropped.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicU32>);

impl Drops {
    fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Held(Drops);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Waits for ever, and counts when it is dropped where it waits.
struct Wait(Drops);

#[async_trait::async_trait]
impl Step for Wait {
    fn signature(&self) -> Signature {
        Signature::new("wait")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        let _held = Held(self.0.clone());
        pending().await
    }
}

fn says(name: &str) -> StepDef {
    let value = name.to_owned();
    StepDef::value(name, move |_| value.clone())
}

fn wait(drops: &Drops) -> StepDef {
    StepDef::of(Wait(drops.clone()))
}

fn throws(name: &str) -> StepDef {
    StepDef::fallible(name, |_| Err("broken".into()))
}

fn line(report: &RunReport) -> String {
    let steps = report.steps().iter().map(|step| format!("{} {}", step.name, step.status));
    steps.collect::<Vec<_>>().join(", ")
}

fn names(report: &RunReport) -> Vec<&str> {
    report.store().names().collect()
}

const LATE: CancelReason = CancelReason::Timeout;
const ASKED: CancelReason = CancelReason::Asked;

#[tokio::test(start_paused = true)]
async fn a_step_that_takes_too_long_is_dropped_where_it_waits_and_tried_again_by_kind() {
    let drops = Drops::default();
    let retry = Retry::attempts(3).on_kind("timeout");
    let slow = wait(&drops).timeout(SECOND).retry(retry.backoff_factor(Duration::ZERO));
    let pipeline = Pipeline::new("p").step(slow).build().unwrap();
    let report = pipeline.run(store! {}).await;
    assert_eq!((report.status(), drops.count()), (Status::Exception, 3));
    assert_eq!((report.error().unwrap().kind(), report.steps()[0].tries), ("timeout", 3));
    assert_eq!(report.error().unwrap().line(), "it took longer than 1s");
    assert!(report.cancelled().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_run_cuts_whatever_it_is_at() {
    let drops = Drops::default();
    let inner = || Pipeline::new("inner").step(says("b")).step(wait(&drops)).build().unwrap();
    let retry = Retry::attempts(3).backoff_factor(SECOND * 60).max_backoff(SECOND * 600);
    let item = || StepDef::of(Wait(drops.clone())).needs::<u32>("n");
    let cases = [
        (wait(&drops), "wait"),
        (throws("t").retry(retry), "t"),
        (parallel((says("b"), wait(&drops))).into_step(), "wait"),
        (parallel((says("b"), wait(&drops))).into_step().named("group"), "wait"),
        (parallel((says("b"), parallel((says("c"), wait(&drops))))).into_step(), "wait"),
        (each("items", item()).into_step(), "wait"),
        (inner().into_step(), "inner"),
        (repeat(wait(&drops)).times(3).into_step(), "wait"),
        (repeat(inner()).times(3).into_step(), "inner"),
    ];
    for (at, who) in cases {
        let pipeline = || Pipeline::new("p").step(says("a")).step(at.clone()).step(says("end"));
        let store = || store! { "items" => vec![1_u32, 2] };
        for pipeline in [pipeline().timeout(SECOND), pipeline().timeout(SECOND).lenient()] {
            let report = pipeline.build().unwrap().run(store()).await;
            assert_eq!(report.cancelled(), Some((Some(who), LATE)), "{report}");
        }
        let built = pipeline().build().unwrap();
        let report = built.run(store()).timeout(SECOND).await;
        assert_eq!(report.cancelled(), Some((Some(who), LATE)), "{report}");
        assert_eq!(report.status(), Status::Cancelled);
        assert_eq!(report.error().unwrap().kind(), "timeout");
        assert_eq!(report.step(who).unwrap().status, StepStatus::Cancelled, "{report}");
        assert_eq!(report.step("a").unwrap().status, StepStatus::Success);
        assert_eq!(report.step("end").unwrap().status, StepStatus::NotRun);
        assert!(report.store().has("a"));
        let cancel = Cancel::new();
        let later = async {
            tokio::time::sleep(SECOND).await; // sleep: the clock is paused, it moves when all wait
            cancel.cancel();
        };
        let (report, ()) = tokio::join!(built.run(store()).cancel_on(&cancel), later);
        assert_eq!(report.cancelled(), Some((Some(who), ASKED)), "{report}");
        assert_eq!(report.error().unwrap().kind(), "cancelled");
    }
}

#[tokio::test(start_paused = true)]
async fn what_members_of_a_group_left_is_kept_when_the_run_is_cut() {
    let drops = Drops::default();
    let group = parallel((says("a"), wait(&drops), chain((says("b"), says("c"))), throws("t")));
    let group = group.into_step().named("group");
    let pipeline = Pipeline::new("p").step(group).step(says("end")).build().unwrap();
    let report = pipeline.run(store! {}).timeout(SECOND).await;
    let became = "group cancelled, a success, wait cancelled, b success, c success, t exception, \
                  end not_run";
    assert_eq!(line(&report), became);
    assert_eq!(names(&report), ["a", "b", "c"]);
    assert_eq!((report.cancelled(), drops.count()), (Some((Some("wait"), LATE)), 1));
}

#[tokio::test]
async fn a_run_that_was_cancelled_before_it_began_runs_nothing() {
    let cancel = Cancel::new();
    cancel.cancel();
    let drops = Drops::default();
    for first in [says("a"), says("a").blocking(), wait(&drops).named("a"), says("a").once()] {
        let pipeline = Pipeline::new("p").step(first).step(says("b")).build().unwrap();
        let report = pipeline.run(store! {}).cancel_on(&cancel).await;
        assert_eq!(line(&report), "a not_run, b not_run");
        assert_eq!(report.cancelled(), Some((None, ASKED)));
        assert!(report.store().is_empty());
    }
    assert_eq!(drops.count(), 0);
}

#[tokio::test]
async fn steps_that_never_wait_are_not_begun_after_a_cancel() {
    let cancel = Cancel::new();
    let by = cancel.clone();
    let last_wish = StepDef::value("last", move |_| by.cancel());
    let pipeline = Pipeline::new("p").step(says("a")).step(last_wish).step(says("b"));
    let report = pipeline.build().unwrap().run(store! {}).cancel_on(&cancel).await;
    assert_eq!(line(&report), "a success, last success, b not_run");
    assert_eq!((report.cancelled(), report.status()), (Some((None, ASKED)), Status::Cancelled));
    let again = Cancel::new();
    let (by, calls) = (again.clone(), Arc::new(AtomicU32::new(0)));
    let counts = Arc::clone(&calls);
    let count = StepDef::value("count", move |_| {
        if counts.fetch_add(1, Ordering::SeqCst) == 2 {
            by.cancel();
        }
    });
    let pipeline = Pipeline::new("p").step(repeat(count).times(9)).build().unwrap();
    let report = pipeline.run(store! {}).cancel_on(&again).await;
    assert_eq!((report.status(), calls.load(Ordering::SeqCst)), (Status::Cancelled, 3));
}

/// Goes round for ever, and never waits.
struct Round;

#[async_trait::async_trait]
impl Step for Round {
    fn signature(&self) -> Signature {
        Signature::new("round").goto("round")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        Ok(Flow::goto("round", 1).into())
    }
}

#[test]
fn a_way_round_that_never_waits_ends_at_the_limit_of_the_run() {
    let pipeline = Pipeline::new("p").step(Round).visits_max(u32::MAX).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = Duration::from_millis(1);
    let report = runtime.block_on(async { pipeline.run(store! {}).timeout(limit).await });
    assert_eq!((report.status(), report.cancelled().unwrap().1), (Status::Cancelled, LATE));
}

#[tokio::test]
async fn a_cancel_after_the_last_step_changes_nothing() {
    let cancel = Cancel::new();
    let by = cancel.clone();
    let last = StepDef::value("last", move |_| by.cancel());
    let pipeline = Pipeline::new("p").step(last).build().unwrap();
    let report = pipeline.run(store! {}).cancel_on(&cancel).await;
    assert_eq!((report.status(), report.cancelled()), (Status::Success, None));
    assert!(cancel.is_cancelled());
}

#[tokio::test]
async fn a_group_that_fails_fast_cancels_its_members_and_nothing_else() {
    let drops = Drops::default();
    let fails = || StepDef::fallible("no", |_| Err(Failure::new("no").into()));
    let group = parallel((wait(&drops), fails(), chain((says("b"), says("c"))))).fail_fast();
    let outer = parallel((group.clone(), says("d"))).evaluate(Evaluation::Any);
    let pipeline = Pipeline::new("p").step(outer).step(says("end")).build().unwrap();
    let report = pipeline.run(store! {}).await;
    let became = "wait cancelled, no failure, b not_run, c not_run, d success, end success";
    assert_eq!((line(&report).as_str(), report.status()), (became, Status::Success));
    assert_eq!((drops.count(), report.cancelled()), (1, None));
    // What can still succeed is not cancelled.
    let most = parallel((fails(), says("b"), says("c")));
    let most = most.evaluate(Evaluation::Majority).fail_fast();
    let report = Pipeline::new("p").step(most).build().unwrap().run(store! {}).await;
    assert_eq!(line(&report), "no failure, b success, c success");
    // A failure of the group is handled like any other.
    let builder = Pipeline::new("p").step(group).on_failure(says("mend")).step(says("end"));
    let report = builder.build().unwrap().run(store! {}).await;
    assert_eq!((report.status(), report.store().has("mend")), (Status::Success, true));
}

#[tokio::test]
async fn a_run_that_is_dropped_drops_its_steps() {
    let drops = Drops::default();
    let group = parallel((wait(&drops), wait(&drops).named("wait2")));
    let pipeline = Pipeline::new("p").step(group).build().unwrap();
    let mut run = Box::pin(pipeline.run(store! {}));
    assert!(futures_util::poll!(&mut run).is_pending());
    drop(run);
    assert_eq!(drops.count(), 2);
    let _never = pipeline.run(store! {});
}

/// Blocks its thread until the step is told that nobody waits any more; says so then.
fn blocks() -> (StepDef, Receiver<()>, Receiver<()>) {
    let (begin, began) = channel();
    let (end, ended) = channel();
    let def = StepDef::value("blocks", move |input| {
        begin.send(()).unwrap();
        while !input.is_cancelled() {
            std::thread::yield_now();
        }
        end.send(()).unwrap();
    });
    (def.executor(Blocking), began, ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_on_a_thread_is_told_whoever_gave_it_up() {
    let (def, began, ended) = blocks();
    let def = def.timeout(Duration::from_millis(100));
    let pipeline = Pipeline::new("p").step(def).build().unwrap();
    assert_eq!(pipeline.run(store! {}).await.error().unwrap().kind(), "timeout");
    // Unless no thread came to it in time: it is not begun any more then.
    if began.try_recv().is_ok() {
        ended.recv().unwrap();
    }
    let (def, began, ended) = blocks();
    let pipeline = Pipeline::new("p").step(def).build().unwrap();
    let cancel = Cancel::new();
    let run = tokio::spawn(pipeline.run(store! {}).cancel_on(&cancel));
    began.recv().unwrap();
    cancel.cancel();
    assert_eq!(run.await.unwrap().cancelled(), Some((Some("blocks"), ASKED)));
    ended.recv().unwrap();
    let run = tokio::spawn(pipeline.run(store! {}));
    began.recv().unwrap();
    run.abort();
    ended.recv().unwrap();
}

#[test]
fn a_step_that_waits_for_a_thread_is_not_begun_once_it_is_given_up() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(1).build().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&calls);
    let late = StepDef::value("late", move |_| counts.fetch_add(1, Ordering::SeqCst)).blocking();
    let late = late.timeout(Duration::from_millis(1));
    let pipeline = Pipeline::new("p").step(late).build().unwrap();
    let (free, held) = channel::<()>();
    runtime.block_on(async {
        let holds = tokio::task::spawn_blocking(move || held.recv());
        assert_eq!(pipeline.run(store! {}).await.error().unwrap().kind(), "timeout");
        free.send(()).unwrap();
        holds.await.unwrap().unwrap();
        // The one thread takes what waits in order.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    });
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_s_own_limit_inside_another_is_an_exception_of_its_step() {
    let drops = Drops::default();
    let inner = Pipeline::new("inner").step(wait(&drops)).timeout(SECOND).build().unwrap();
    for step in [inner.clone().into_step(), inner.into_step().timeout(SECOND * 5)] {
        let pipeline = Pipeline::new("p").step(step).on_failure(says("mend")).build().unwrap();
        let report = pipeline.run(store! {}).await;
        assert_eq!((report.status(), report.cancelled()), (Status::Success, None), "{report}");
        let error = report.step("inner").unwrap().error.clone();
        assert_eq!(error.as_deref(), Some("timeout: it took longer than 1s"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_no_longer_than_it_may_for_a_step_another_run_does_once() {
    let drops = Drops::default();
    let pipeline = Pipeline::new("p").step(says("a")).step(wait(&drops).once()).build().unwrap();
    let mut first = Box::pin(pipeline.run(store! {}));
    assert!(futures_util::poll!(&mut first).is_pending());
    let report = pipeline.run(store! {}).timeout(SECOND).await;
    assert_eq!(report.cancelled(), Some((Some("wait"), LATE)));
    assert_eq!(line(&report), "a success, wait cancelled");
    assert_eq!(drops.count(), 0);
    drop(first);
    assert_eq!(drops.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_is_an_error_that_a_policy_tries_again() {
    let pipeline = Pipeline::new("p").step(wait(&Drops::default())).timeout(SECOND);
    let error = pipeline.build().unwrap().run(store! {}).await.into_result().unwrap_err();
    assert_eq!(error.to_string(), "step wait: timeout: the run took longer than it may");
    let decision = FailurePolicy::for_group().decide(Err::<(), _>(error).into_outcome(), 1);
    assert!(matches!(decision, Decision::Again(..)), "{decision:?}");
}

#[test]
fn a_limit_needs_no_runtime_where_nothing_waits() {
    #[step]
    async fn quick(n: u32) -> u32 {
        n + 1
    }
    let fit = StepDef::value("fit", |_| 1).once();
    let group = parallel((says("b"), chain((says("c"), repeat(says("d")).times(2)))));
    let pipeline = Pipeline::new("p").step(says("a")).step(fit).step(group).timeout(SECOND);
    let pipeline = pipeline.build().unwrap();
    let run = pipeline.run(store! {}).cancel_on(&Cancel::new());
    let report = futures_util::FutureExt::now_or_never(run).unwrap();
    assert_eq!(report.status(), Status::Success, "{report}");
    let pipeline = Pipeline::new("p").step(quick).build().unwrap();
    let run = pipeline.run(store! { "n" => 1_u32 }).cancel_on(&Cancel::new());
    let report = futures_util::FutureExt::now_or_never(run).unwrap();
    assert_eq!(*report.get::<u32>("quick").unwrap(), 2);
    // What needs a clock says so.
    let timed = Pipeline::new("p").step(quick.timeout(SECOND)).build().unwrap();
    let run = timed.run(store! { "n" => 1_u32 });
    let report = futures_util::FutureExt::now_or_never(run).unwrap();
    assert_eq!(report.error().unwrap().kind(), "unsupported");
}
