//! Steps side by side and for each item: really at once, in order, bounded.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Evaluation, Failure, Flow, IntoStep, Pipeline, RunReport, Status, StepDef, StepResult, chain,
    each,
    executor::{Executor, Task},
    executors::Blocking,
    json, parallel,
    pipeline::{StepStatus, StopReason},
    repeat, step,
    step::{Input, Items, Signature, Step},
    store,
};
use std::sync::{
    Arc, Barrier,
    atomic::{AtomicUsize, Ordering},
};

fn says(name: &str) -> StepDef {
    let value = name.to_owned();
    StepDef::value(name, move |_| value.clone())
}

fn path(report: &RunReport) -> String {
    report.path().collect::<Vec<_>>().join(" ")
}

/// Runs a step on a thread of its own.
#[derive(Debug)]
struct OwnThread;

#[async_trait::async_trait]
impl Executor for OwnThread {
    async fn execute(&self, task: Task) -> StepResult {
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let done = futures_util::FutureExt::now_or_never(task.run()).unwrap();
            let _ = tell.send(done);
        });
        told.await?
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_on_threads_run_at_once_and_wait_for_each_other() {
    let barrier = Arc::new(Barrier::new(4));
    let meet = |name: &str| {
        let barrier = Arc::clone(&barrier);
        StepDef::value(name, move |_| {
            barrier.wait();
        })
    };
    let sync = tokio::sync::Barrier::new(2);
    let sync = Arc::new(sync);
    let later = |name: &str| StepDef::new(name, Arc::new(Meets(Arc::clone(&sync))));
    let group = parallel((
        meet("a").executor(Blocking),
        meet("b").executor(OwnThread),
        chain((says("c1"), meet("c2").blocking())),
        parallel((meet("d").blocking(), later("e"))),
        later("f"),
    ));
    let pipeline = Pipeline::new("p").step(group).build().unwrap();
    let report = pipeline.run(store! {}).await;
    assert_eq!((report.status(), path(&report).as_str()), (Status::Success, "a b c1 c2 d e f"));
}

/// Waits for another one.
struct Meets(Arc<tokio::sync::Barrier>);

#[async_trait::async_trait]
impl Step for Meets {
    fn signature(&self) -> Signature {
        Signature::new("meets")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        self.0.wait().await;
        Ok(Flow::Next(None))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_members_are_piped_in_their_order_whoever_ends_first() {
    let barrier = Arc::new(Barrier::new(2));
    let (first, second) = (Arc::clone(&barrier), barrier);
    // The first member ends only after the second has begun.
    let slow = StepDef::value("slow", move |_| {
        first.wait();
        "slow"
    });
    let fast = StepDef::value("fast", move |_| {
        second.wait();
        "fast"
    });
    let all = StepDef::fallible("all", |input| {
        Ok(Flow::next(input.get::<Vec<Option<String>>>("values")?.to_vec()))
    });
    let nothing = StepDef::value("nothing", |_| ());
    let group = parallel((slow.blocking(), fast.blocking(), nothing));
    let pipeline = Pipeline::new("p").step(group);
    let pipeline = pipeline.pipe(all.needs::<Vec<Option<String>>>("values")).build().unwrap();
    let report = pipeline.run(store! {}).await;
    let values = [Some("slow".to_owned()), Some("fast".to_owned()), None];
    assert_eq!(*report.get::<Vec<Option<String>>>("all").unwrap(), values, "{report}");
}

#[tokio::test]
async fn what_is_piped_after_branches_reaches_members_of_inner_groups() {
    let show = |name: &str| {
        let def = StepDef::fallible(name, |input| {
            Ok(Flow::next(input.get::<String>("text")?.to_string()))
        });
        def.needs::<String>("text")
    };
    let group = || parallel((show("x"), parallel((show("y"), show("z")))));
    let fails = StepDef::fallible("a", |_| Err(Failure::new("no").into()));
    for (first, text) in [(says("a"), "good"), (fails, "bad")] {
        let pipeline =
            Pipeline::new("p").step(first).on_failure(says("bad")).on_success(says("good"));
        let report = pipeline.pipe(group()).build().unwrap().run(store! {}).await;
        for name in ["x", "y", "z"] {
            assert_eq!(*report.get::<String>(name).unwrap(), text, "{report}");
        }
    }
}

#[tokio::test]
async fn no_more_items_are_worked_on_at_once_than_said_and_as_many_as_said_are() {
    let now = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    for bound in [1, 3, 7] {
        now.1.store(0, Ordering::SeqCst);
        let group = each("items", Counts(Arc::clone(&now))).at_once(bound);
        let pipeline = Pipeline::new("p").step(group).build().unwrap();
        let report = pipeline.run(store! { "items" => Items::of(0..100_u64) }).await;
        assert_eq!(now.1.load(Ordering::SeqCst), bound);
        let expected: Vec<u64> = (0..100).collect();
        assert_eq!(*report.get::<Vec<u64>>("counts").unwrap(), expected);
    }
}

/// Counts how many of it run, and the most there were.
struct Counts(Arc<(AtomicUsize, AtomicUsize)>);

#[async_trait::async_trait]
impl Step for Counts {
    fn signature(&self) -> Signature {
        Signature::new("counts").needs::<u64>("n")
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        let n = *input.get::<u64>("n")?;
        let (now, most) = (&self.0.0, &self.0.1);
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        for _ in 0..(n % 5) {
            tokio::task::yield_now().await;
        }
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(Flow::next(n))
    }
}

#[step]
fn double(n: u64) -> u64 {
    n * 2
}

#[tokio::test]
async fn a_list_of_100_000_items_comes_back_in_order() {
    let pipeline = Pipeline::new("p").step(each("items", double)).build().unwrap();
    let items: Vec<u64> = (0..100_000).collect();
    let report = pipeline.run(store! { "items" => items }).await;
    let doubled = report.get::<Vec<u64>>("double").unwrap();
    assert!(doubled.iter().enumerate().all(|(n, value)| *value == 2 * n as u64));
    assert_eq!(doubled.len(), 100_000);
}

/// Ends or panics at some item, and counts how often it was asked after that.
struct Source(u64, u64, bool, Arc<AtomicUsize>);

impl Iterator for Source {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 += 1;
        if self.0 < self.1 {
            return Some(self.0);
        }
        self.3.fetch_add(1, Ordering::SeqCst);
        assert!(!self.2, "no more");
        // Goes on if it is asked again.
        (self.0 > self.1).then_some(self.0)
    }
}

#[tokio::test]
async fn what_makes_the_items_is_asked_no_more_once_it_ended_or_panicked() {
    for (panics, status) in [(false, Status::Success), (true, Status::Exception)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let items = Items::of(Source(0, 10, panics, Arc::clone(&asked)));
        let pipeline = Pipeline::new("p").step(each("items", double).at_once(3)).build().unwrap();
        let report = pipeline.run(store! { "items" => items }).await;
        assert_eq!((report.status(), asked.load(Ordering::SeqCst)), (status, 1), "{report}");
        assert_eq!(report.step("double").unwrap().items.as_ref().unwrap().succeeded, 9);
    }
}

#[tokio::test]
async fn items_that_are_gone_or_no_list_are_an_exception_that_says_so() {
    let twice = each("items", double);
    let again = twice.clone().into_step().named("again").output("more");
    let pipeline = Pipeline::new("p").step(twice).step(again).build().unwrap();
    let report = pipeline.run(store! { "items" => Items::of(0..3_u64) }).await;
    let error = report.step("again").unwrap().error.clone().unwrap();
    assert!(error.contains("gone already"), "{error}");
    for no_list in [json!(7), json!({"a": 1}), json!("text"), json!(null)] {
        let report = pipeline.run(store! { "items" => no_list }).await;
        let error = report.error().unwrap();
        assert_eq!(
            (error.kind(), report.stopped()),
            ("input", Some(("double", StopReason::Exception)))
        );
        assert!(error.line().contains("it is no list"), "{}", error.line());
    }
    let report = pipeline.run(store! { "items" => json!([1, "x", 3]) }).await;
    let items = report.step("double").unwrap().items.clone().unwrap();
    assert_eq!((items.succeeded, items.failed, items.failures[0].0), (2, 1, 1));
    let report = pipeline.run(store! {}).await;
    assert_eq!(report.error().unwrap().kind(), "input");
}

#[tokio::test]
async fn a_group_without_members_is_judged_too() {
    for (evaluation, succeeds) in [
        (Evaluation::All, false),
        (Evaluation::NoneFailed, true),
        (Evaluation::Any, false),
        (Evaluation::NotAllFailed, true),
    ] {
        let group = parallel(Vec::<StepDef>::new()).evaluate(evaluation);
        let pipeline = Pipeline::new("p").step(group).on_failure(says("bad")).step(says("end"));
        let report = pipeline.build().unwrap().run(store! {}).await;
        let way = if succeeds { "end" } else { "bad end" };
        assert_eq!(path(&report), way, "{evaluation}");
    }
    let none = Pipeline::new("p").step(parallel(Vec::<StepDef>::new())).build().unwrap();
    let report = none.run(store! {}).await;
    assert_eq!(report.error().unwrap().line(), "a group has no members");
}

#[tokio::test]
async fn no_items_are_a_success_unless_the_evaluation_wants_one() {
    for (evaluation, status) in [
        (Evaluation::NoneFailed, Status::Success),
        (Evaluation::NotAllFailed, Status::Success),
        (Evaluation::All, Status::Failure),
        (Evaluation::Any, Status::Failure),
        (Evaluation::AtLeast(1), Status::Failure),
        (Evaluation::Majority, Status::Failure),
    ] {
        let group = each("items", double).evaluate(evaluation);
        let pipeline = Pipeline::new("p").step(group).build().unwrap();
        let report = pipeline.run(store! { "items" => Vec::<u64>::new() }).await;
        assert_eq!(report.status(), status, "{evaluation}");
    }
}

#[tokio::test]
async fn an_item_that_fails_fast_ends_the_rest_and_begins_no_more() {
    let begun = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&begun);
    let body = StepDef::fallible("body", move |input| {
        counts.fetch_add(1, Ordering::SeqCst);
        match *input.get::<u64>("n")? {
            5 => Err(Failure::new("five").value(json!({"n": 5})).into()),
            n => Ok(Flow::next(n)),
        }
    });
    let group = each("items", body.needs::<u64>("n")).at_once(1).fail_fast();
    let pipeline = Pipeline::new("p").step(group).step(says("end")).build().unwrap();
    let report = pipeline.run(store! { "items" => Items::of(0..1_000_000_u64) }).await;
    assert_eq!((report.status(), begun.load(Ordering::SeqCst)), (Status::Failure, 6));
    assert_eq!(report.error().unwrap().line(), "1 of 6 items did not succeed; item 5: five");
}

#[tokio::test]
async fn a_body_that_stops_ends_its_item_alone() {
    let first = StepDef::fallible("first", |input| match *input.get::<u64>("n")? {
        2 => Ok(Flow::stop("stopped")),
        _ => Ok(Flow::next("first")),
    });
    let body = chain((first.needs::<u64>("n"), says("second")));
    let inner = Pipeline::new("body").step(body).build().unwrap();
    let pipeline = Pipeline::new("p").step(each("items", inner)).step(says("end")).build().unwrap();
    let report = pipeline.run(store! { "items" => vec![1_u64, 2, 3] }).await;
    assert_eq!((report.status(), path(&report).as_str()), (Status::Success, "body end"));
    assert_eq!(*report.get::<Vec<String>>("body").unwrap(), ["second", "stopped", "second"]);
}

#[tokio::test]
async fn a_member_that_ends_the_run_ends_it_whatever_the_group_comes_to() {
    let no = || StepDef::fallible("no", |_| Err(Failure::new("no").into()));
    let halts = || StepDef::value("halts", |_| Flow::stop(1));
    // Handled by the group's branch or gone past: neither is, since the run ends here.
    for member in [no().stop_on_error(true).into_step(), parallel((no(), halts())).into_step()] {
        let group = parallel((member, says("b"))).into_step();
        let strict = Pipeline::new("p").step(group.clone().on_failure(says("mend")));
        for builder in [strict.step(says("end")), Pipeline::new("p").step(group).step(says("end"))]
        {
            let report = builder.lenient().build().unwrap().run(store! {}).await;
            assert_eq!(report.status(), Status::Failure, "{report}");
            assert_eq!(report.step("end").unwrap().status, StepStatus::NotRun, "{report}");
            assert!(!report.store().has("mend") && report.store().has("b"), "{report}");
        }
    }
}

#[tokio::test]
async fn a_pipeline_in_a_pipeline_pipes_what_its_last_step_left() {
    let inner = Pipeline::new("inner").step(double).build().unwrap();
    let show = StepDef::fallible("show", |input| Ok(Flow::next(*input.get::<u64>("value")? + 1)));
    let show = show.needs::<u64>("value");
    for step in [inner.clone().into_step(), repeat(inner).times(1).into_step()] {
        let pipeline = Pipeline::new("p").step(step).pipe(show.clone()).build().unwrap();
        let report = pipeline.run(store! { "n" => 3_u64 }).await;
        assert_eq!(*report.get::<u64>("show").unwrap(), 7, "{report}");
    }
}

#[test]
fn members_may_not_leave_one_value_even_on_one_of_their_ways() {
    let maybe = says("a").on_failure(says("b").output("x"));
    let pipeline = Pipeline::new("p").step(parallel((maybe.clone(), says("x")))).build();
    let error = pipeline.unwrap_err().to_string();
    assert!(error.contains("step `b` and step `x` both leave `x`, side by side"), "{error}");
    // One member may, on its several ways.
    let either = maybe.on_success(says("c").output("x"));
    assert!(Pipeline::new("p").step(parallel((either, says("d")))).build().is_ok());
}

#[test]
fn what_is_said_of_a_chain_is_not_lost() {
    let both = || chain((says("a"), says("b")));
    for (step, why) in [
        (both().retry(json!({"max_attempts": 0})), "max_attempts"),
        (both().bind("x", "y"), "`x` is bound"),
        (both().blocking(), "an executor is said of a group"),
    ] {
        let error = Pipeline::new("p").step(step).build().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
