//! What pipelines make of the edges: judged groups, values that panic, steps that cancel, limits
//! within limits.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Cancel, Evaluation, Failure, Flow, IntoStep, Pipeline, Retry, RunReport, Status, StepDef,
    Steps, chain, each,
    executors::Threads,
    parallel,
    pipeline::StepStatus,
    repeat, step,
    step::{Input, Items, Opaque, Signature, Step, StepResult},
    store,
};
use std::{
    future::pending,
    panic::panic_any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

fn says(name: &str) -> StepDef {
    let value = name.to_owned();
    StepDef::value(name, move |_| value.clone())
}

fn path(report: &RunReport) -> String {
    report.path().collect::<Vec<_>>().join(" ")
}

/// Waits for ever at items below 2; says no at 2; goes on at those past it.
#[step]
async fn third(n: u64) -> Result<u64, Failure> {
    match n {
        0 | 1 => pending().await,
        2 => Err(Failure::new("two")),
        n => Ok(n),
    }
}

#[tokio::test]
async fn items_that_fail_fast_fail_as_the_one_did_that_failed() {
    let group = each("items", third).at_once(3).fail_fast();
    let report = Pipeline::new("p").step(group).build().unwrap();
    let report = report.run(store! { "items" => vec![0_u64, 1, 2, 3] }).await;
    assert_eq!(report.status(), Status::Failure, "{report}");
    assert_eq!(report.error().unwrap().line(), "3 of 3 items did not succeed; item 2: two");
}

fn odd_fails(begun: &Arc<AtomicUsize>) -> StepDef {
    let begun = Arc::clone(begun);
    let odd = StepDef::fallible("odd", move |input| {
        begun.fetch_add(1, Ordering::SeqCst);
        match *input.get::<u64>("n")? {
            n if n % 2 == 1 => Err(Failure::new("odd").into()),
            n => Ok(Flow::next(n)),
        }
    });
    odd.needs::<u64>("n")
}

#[tokio::test]
async fn items_that_fail_fast_go_on_while_they_may_still_succeed_as_members_do() {
    use Evaluation::{All, Any, AtLeast, Majority, NoneFailed, NotAllFailed, Percent};
    // 0 to 9, one after another: after how many is it decided that the whole fails?
    for (evaluation, begins, status) in [
        (NoneFailed, 2, Status::Failure),
        (All, 2, Status::Failure),
        (Percent(100), 2, Status::Failure),
        (Percent(60), 10, Status::Failure),
        (Percent(80), 6, Status::Failure),
        (Majority, 10, Status::Failure),
        (AtLeast(9), 4, Status::Failure),
        (AtLeast(5), 10, Status::Success),
        (Percent(50), 10, Status::Success),
        (Any, 10, Status::Success),
        (NotAllFailed, 10, Status::Success),
    ] {
        for lazily in [false, true] {
            let begun = Arc::default();
            let group = each("items", odd_fails(&begun)).at_once(1).evaluate(evaluation);
            let pipeline = Pipeline::new("p").step(group.fail_fast()).build().unwrap();
            let store = match lazily {
                false => store! { "items" => (0..10).collect::<Vec<u64>>() },
                true => store! { "items" => Items::of(0..10_u64) },
            };
            let report = pipeline.run(store).await;
            assert_eq!(report.status(), status, "{evaluation}, {lazily}: {report}");
            assert_eq!(begun.load(Ordering::SeqCst), begins, "{evaluation}, {lazily}: {report}");
        }
    }
}

#[tokio::test]
async fn of_items_without_a_known_number_only_their_end_decides() {
    // Nobody knows how many there are to come: that alone could still make a majority.
    let begun = Arc::default();
    let items = || Items::of((0..10_u64).filter(|_| true).chain(std::iter::once(11)));
    let group = each("items", odd_fails(&begun)).at_once(1).evaluate(Evaluation::AtLeast(6));
    let pipeline = Pipeline::new("p").step(group.fail_fast()).build().unwrap();
    let report = pipeline.run(store! { "items" => items() }).await;
    assert_eq!((report.status(), begun.load(Ordering::SeqCst)), (Status::Failure, 11), "{report}");
}

/// Panics whenever it is dropped, unless something panics already.
#[derive(Clone, Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a bomb went off");
    }
}

/// Waits for ever, with a bomb on its stack.
struct Waits;

#[async_trait::async_trait]
impl Step for Waits {
    fn signature(&self) -> Signature {
        Signature::new("waits")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        let _bomb = Bomb;
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_panics_as_it_is_dropped_is_cut_off_like_others() {
    let limit = Duration::from_secs(1);
    let late = Pipeline::new("p").step(StepDef::of(Waits).timeout(limit)).build().unwrap();
    let report = late.run(store! {}).await;
    assert_eq!(report.error().unwrap().kind(), "timeout", "{report}");
    let cut = Pipeline::new("p").step(Waits).timeout(limit).build().unwrap();
    let report = cut.run(store! {}).await;
    assert_eq!((report.status(), path(&report).as_str()), (Status::Cancelled, "waits"), "{report}");
}

#[tokio::test]
async fn what_a_panic_carries_may_panic_as_it_is_dropped() {
    for step in [
        StepDef::fallible("a", |_| panic_any(Bomb)),
        says("a").bypass(|_| -> bool { panic_any(Bomb) }),
        says("a").only_if(|_| -> bool { panic_any(Bomb) }),
        repeat(says("a")).until(|_: &Input<'_>| -> bool { panic_any(Bomb) }).into_step(),
    ] {
        let report = Pipeline::new("p").step(step).build().unwrap().run(store! {}).await;
        assert_eq!(report.error().unwrap().kind(), "panic", "{report}");
    }
    let retry = Retry::attempts(2).on_error(|_| panic_any(Bomb));
    let step = StepDef::fallible("a", |_| Err("no".into())).retry(retry);
    let report = Pipeline::new("p").step(step).build().unwrap().run(store! {}).await;
    assert_eq!((report.error().unwrap().kind(), report.steps()[0].tries), ("error", 1), "{report}");
}

#[tokio::test]
async fn a_value_that_panics_as_it_is_replaced_ends_the_run_with_an_exception() {
    let again = StepDef::value("again", |_| 7).output("bomb");
    let pipeline = || Pipeline::new("p").step(says("a")).step(again.clone()).step(says("b"));
    let report = pipeline().build().unwrap().run(store! { "bomb" => Opaque(Bomb) }).await;
    assert_eq!(report.status(), Status::Exception, "{report}");
    assert_eq!(report.error().unwrap().kind(), "panic", "{report}");
    assert_eq!(report.step("a").unwrap().status, StepStatus::Success, "{report}");
    // In a pipeline of another, that one alone has ended, as a step.
    let bomb = StepDef::value("make", |_| Opaque(Bomb)).output("bomb");
    let inner = Pipeline::new("inner").step(bomb).step(again).build().unwrap();
    let outer = Pipeline::new("outer").step(inner).on_failure(says("mend")).build().unwrap();
    let report = outer.run(store! {}).await;
    assert_eq!(path(&report), "inner mend", "{report}");
}

/// Makes three items, and panics as it is dropped.
struct Three(u64, Bomb);

impl Iterator for Three {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 += 1;
        (self.0 < 4).then_some(self.0)
    }
}

#[tokio::test]
async fn what_makes_the_items_may_panic_as_it_is_dropped() {
    let double = StepDef::fallible("double", |input| Ok(Flow::next(2 * *input.get::<u64>("n")?)));
    let pipeline = Pipeline::new("p").step(each("items", double.needs::<u64>("n")));
    let report =
        pipeline.build().unwrap().run(store! { "items" => Items::of(Three(0, Bomb)) }).await;
    assert_eq!(*report.get::<Vec<u64>>("double").unwrap(), [2, 4, 6], "{report}");
}

#[step]
fn cancels(cancel: Cancel) -> u8 {
    cancel.cancel();
    7
}

#[tokio::test]
async fn a_step_that_cancels_itself_does_the_same_wherever_it_runs() {
    for step in [cancels.into_step(), cancels.executor(Threads::new(1))] {
        // Nothing to cancel: nobody gave the run a token.
        let nested = Pipeline::new("inner").step(step.clone()).build().unwrap();
        for step in [step.clone(), nested.into_step()] {
            let report = Pipeline::new("p").step(step).build().unwrap().run(store! {}).await;
            assert_eq!(report.status(), Status::Success, "{report}");
        }
        let run = Pipeline::new("p").step(step).step(says("end")).build().unwrap();
        let report = run.run(store! {}).cancel_on(&Cancel::new()).await;
        assert_eq!(report.status(), Status::Cancelled, "{report}");
    }
}

#[tokio::test]
async fn items_that_are_gone_are_not_gone_through_again() {
    let fails = StepDef::fallible("fails", |_| Err("broken".into())).needs::<u64>("n");
    let retry = Retry::attempts(3).backoff_factor(Duration::ZERO);
    let group = each("items", fails).into_step().retry(retry);
    let pipeline = Pipeline::new("p").step(group).build().unwrap();
    let report = pipeline.run(store! { "items" => Items::of(0..2_u64) }).await;
    let error = report.error().unwrap().line();
    assert_eq!(error, "each: 2 of 2 items did not succeed; item 0: broken", "{report}");
    assert_eq!(report.steps()[0].tries, 1, "{report}");
    let report = pipeline.run(store! { "items" => vec![0_u64, 1] }).await;
    assert_eq!(report.steps()[0].tries, 3, "{report}");
}

/// Jumps to itself for ever.
struct Loops;

#[async_trait::async_trait]
impl Step for Loops {
    fn signature(&self) -> Signature {
        Signature::new("loops").goto("loops").takes::<u64>("n")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        Ok(Flow::goto("loops", 1_u64).into())
    }
}

#[tokio::test]
async fn how_often_jumps_may_lead_to_a_step_holds_in_what_stands_inside_too() {
    for step in [each("items", Loops).into_step(), repeat(Loops).times(1).into_step()] {
        let pipeline = Pipeline::new("p").step(step).visits_max(5).build().unwrap();
        let report = pipeline.run(store! { "items" => vec![1_u64], "n" => 1_u64 }).await;
        let error = report.error().unwrap();
        assert_eq!(error.kind(), "loop", "{report}");
        assert!(error.line().contains("came to `loops` 5 times"), "{report}");
    }
}

#[tokio::test]
async fn a_success_that_stops_a_repetition_ends_it_wherever_it_stands() {
    let count = || {
        StepDef::fallible("count", |input| Ok(Flow::next(*input.get::<u64>("count")? + 1)))
            .needs::<u64>("count")
            .stop_on_success(true)
    };
    let bodies = [count(), chain((count(), says("more"))).named("body")];
    for body in bodies {
        let pipeline = Pipeline::new("p").step(repeat(body).times(5)).step(says("end"));
        let report = pipeline.build().unwrap().run(store! { "count" => 0_u64 }).await;
        assert_eq!(*report.get::<u64>("count").unwrap(), 1, "{report}");
        assert_eq!(report.status(), Status::Success, "{report}");
    }
}

#[test]
fn a_step_is_not_hidden_by_its_name() {
    for step in [says("{a"), parallel((says("a"), says("b"))).into_step().named("{c")] {
        let error = Pipeline::new("p").step(step).build().unwrap_err().to_string();
        assert!(error.contains("is not a name"), "{error}");
    }
}

#[test]
fn what_no_group_can_come_to_is_refused() {
    for (evaluation, why) in [
        (Evaluation::AtLeast(3), "a group of 2 never reaches at_least(3)"),
        (Evaluation::Percent(101), "a group of 2 never reaches percent(101)"),
    ] {
        let group = parallel((says("a"), says("b"))).evaluate(evaluation);
        let error = Pipeline::new("p").step(group).build().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let all = each("items", third).evaluate(Evaluation::Percent(101));
    let error = Pipeline::new("p").step(all).build().unwrap_err().to_string();
    assert!(error.contains("percent(101)"), "{error}");
    for fits in [Evaluation::AtLeast(0), Evaluation::AtLeast(2), Evaluation::Percent(0)] {
        let group = parallel((says("a"), says("b"))).evaluate(fits);
        assert!(Pipeline::new("p").step(group).build().is_ok(), "{fits}");
    }
}

#[test]
fn steps_and_flows_stand_in_the_order_in_which_they_were_written() {
    let steps = || Steps::new().add(says("a")).add(says("b"));
    let builder = || Pipeline::new("p").step(says("x")).flow("a -> b").step(says("y"));
    let pipeline = builder().steps(steps()).build().unwrap();
    assert_eq!(pipeline.steps().collect::<Vec<_>>(), ["x", "a", "b", "y"]);
    let after = Pipeline::new("p").steps(steps()).flow("a").flow("b").on_failure(says("mend"));
    let pipeline = after.build().unwrap();
    assert_eq!(pipeline.steps().collect::<Vec<_>>(), ["a", "b", "mend"]);
    let more = Steps::new().add(says("c"));
    let pipeline = Pipeline::new("p").steps(steps()).steps(more).flow("a -> c").build().unwrap();
    assert_eq!(pipeline.steps().count(), 2);
}

#[tokio::test]
async fn items_that_are_all_through_when_the_run_is_cancelled_are_through() {
    let cancel = Cancel::new();
    let told = cancel.clone();
    let last = StepDef::fallible("last", move |input| {
        let n = *input.get::<u64>("n")?;
        if n == 2 {
            told.cancel();
        }
        Ok(Flow::next(n))
    });
    let group = each("items", last.needs::<u64>("n")).at_once(1);
    let pipeline = Pipeline::new("p").step(group).build().unwrap();
    let run = |items: Vec<u64>| pipeline.run(store! { "items" => items }).cancel_on(&cancel);
    let (all, one_left) = (run(vec![1, 2]), run(vec![1, 2]));
    let report = all.await;
    assert_eq!(report.status(), Status::Success, "{report}");
    assert_eq!(one_left.await.status(), Status::Cancelled);
    let cancel = Cancel::new();
    let told = cancel.clone();
    let first = StepDef::value("first", move |_| told.cancel()).needs::<u64>("n");
    let pipeline = Pipeline::new("p").step(each("items", first).at_once(1)).build().unwrap();
    let report = pipeline.run(store! { "items" => vec![1_u64, 2] }).cancel_on(&cancel).await;
    assert_eq!(report.status(), Status::Cancelled, "{report}");
}

#[tokio::test]
async fn a_report_says_why_a_named_group_failed_though_none_of_its_members_did() {
    let group = parallel(Vec::<StepDef>::new()).into_step().named("group");
    let report = Pipeline::new("p").step(group).build().unwrap().run(store! {}).await;
    assert!(report.to_string().contains("a group has no members"), "{report}");
}
