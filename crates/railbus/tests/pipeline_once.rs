//! Steps that run once, only if, or not at all, and pipelines in pipelines.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Event, Failure, Flow, IntoStep, Pipeline, RunReport, Status, StepDef, any, chain, each,
    parallel,
    pipeline::{StepStatus, StopReason},
    step,
    step::{Input, Signature, Step, StepResult},
    store,
};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

fn says(name: &str) -> StepDef {
    let value = name.to_owned();
    StepDef::value(name, move |_| value.clone())
}

fn line(report: &RunReport) -> String {
    let steps = report.steps().iter().map(|step| format!("{} {}", step.name, step.status));
    steps.collect::<Vec<_>>().join(", ")
}

/// Counts how often it ran; fails so many times first.
#[derive(Clone)]
struct Fit(Arc<AtomicU64>, u64);

#[async_trait::async_trait]
impl Step for Fit {
    fn signature(&self) -> Signature {
        Signature::new("fit").output::<u64>("model")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        tokio::task::yield_now().await;
        match self.0.fetch_add(1, Ordering::SeqCst) + 1 {
            n if n <= self.1 => Err(Failure::new("not yet").into()),
            n => Ok(Flow::next(n)),
        }
    }
}

fn fit(fails: u64) -> (StepDef, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    (StepDef::of(Fit(Arc::clone(&count), fails)).once(), count)
}

#[tokio::test]
async fn of_runs_that_come_at_once_one_does_it_and_all_get_its_value() {
    let (fit, count) = fit(0);
    let pipeline = Pipeline::new("p").step(fit).build().unwrap();
    let runs = (0..50).map(|_| pipeline.run(store! {}));
    let reports = futures_util::future::join_all(runs).await;
    assert!(reports.iter().all(|report| *report.get::<u64>("model").unwrap() == 1));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let of = |status| reports.iter().filter(|r| r.steps()[0].status == status).count();
    assert_eq!((of(StepStatus::Success), of(StepStatus::Skipped)), (1, 49));
}

#[tokio::test]
async fn a_try_that_failed_or_was_dropped_leaves_it_to_the_next_run() {
    let (fit, count) = fit(2);
    let pipeline = Pipeline::new("p").step(fit).build().unwrap();
    let mut dropped = Box::pin(pipeline.run(store! {}));
    assert!(futures_util::poll!(&mut dropped).is_pending());
    drop(dropped);
    let runs = (0..4).map(|_| pipeline.run(store! {}));
    let reports = futures_util::future::join_all(runs).await;
    let failed = reports.iter().filter(|report| report.status() == Status::Failure).count();
    assert_eq!((failed, count.load(Ordering::SeqCst)), (2, 3));
    pipeline.refit();
    let report = pipeline.run(store! {}).await;
    assert_eq!(*report.get::<u64>("model").unwrap(), 4);
}

#[tokio::test]
async fn what_is_left_once_belongs_to_one_pipeline_and_one_place() {
    let (fit, count) = fit(0);
    let both = Pipeline::new("p").step(fit.clone().named("a").output("a"));
    let both = both.step(fit.clone().named("b").output("b")).build().unwrap();
    let report = both.run(store! {}).await;
    assert_eq!((*report.get::<u64>("a").unwrap(), *report.get::<u64>("b").unwrap()), (1, 2));
    let other = Pipeline::new("q").step(fit).build().unwrap();
    assert_eq!(*other.run(store! {}).await.get::<u64>("model").unwrap(), 3);
    let report = both.run(store! {}).await;
    assert_eq!((*report.get::<u64>("a").unwrap(), count.load(Ordering::SeqCst)), (1, 3));
}

#[tokio::test]
async fn a_pipeline_that_runs_once_leaves_all_its_values_to_later_runs() {
    let (fit, count) = fit(0);
    let inner = Pipeline::new("inner").step(says("a")).step(fit).build().unwrap();
    let last = StepDef::fallible("last", |input| Ok(Flow::next(*input.get::<u64>("model")? + 1)));
    let last = last.needs::<u64>("model");
    let whole = |inner: StepDef| Pipeline::new("p").step(inner).step(last.clone()).build().unwrap();
    for pipeline in [whole(inner.clone().once()), whole(inner.into_step())] {
        pipeline.refit();
        let ran = count.load(Ordering::SeqCst);
        for _ in 0..2 {
            let report = pipeline.run(store! {}).await;
            assert_eq!(report.status(), Status::Success, "{report}");
            assert_eq!(*report.get::<u64>("last").unwrap(), ran + 2);
            assert_eq!(*report.get::<String>("a").unwrap(), "a");
        }
        assert_eq!(count.load(Ordering::SeqCst), ran + 1, "refit reaches pipelines inside");
    }
}

#[tokio::test]
async fn members_and_items_share_what_one_of_them_does_once() {
    let (fit, count) = fit(0);
    let use_it = StepDef::fallible("use", |input| {
        Ok(Flow::next(*input.get::<u64>("n")? * *input.get::<u64>("model")?))
    });
    let body = chain((fit, use_it.needs::<u64>("n").needs::<u64>("model")));
    let body = Pipeline::new("body").step(body).build().unwrap();
    let group = parallel((each("items", body).item("n"), says("x")));
    let pipeline = Pipeline::new("p").step(group).build().unwrap();
    let report = pipeline.run(store! { "items" => vec![1_u64, 2, 3] }).await;
    assert_eq!(*report.get::<Vec<u64>>("body").unwrap(), [1, 2, 3], "{report}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_step_that_is_left_out_takes_its_branches_along_and_one_passed_by_does_not() {
    let branched = |step: StepDef| {
        let builder = Pipeline::new("p").step(step).on_success(says("good"));
        builder.on_failure(says("bad")).step(says("end")).build().unwrap()
    };
    let report = branched(says("a").only_if(|_| false)).run(store! {}).await;
    assert_eq!(line(&report), "a skipped, good not_run, bad not_run, end success");
    let report = branched(says("a").bypass(|_| true)).run(store! {}).await;
    assert_eq!(line(&report), "a skipped, good success, bad not_run, end success");
    let report = branched(StepDef::value("a", |_| Flow::Skip)).run(store! {}).await;
    assert_eq!(line(&report), "a skipped, good not_run, bad not_run, end success");
    let report = branched(says("a").stop_on_success(true)).run(store! {}).await;
    assert_eq!(line(&report), "a success, good not_run, bad not_run, end not_run");
    assert_eq!(
        (report.status(), report.stopped()),
        (Status::Stopped, Some(("a", StopReason::Success)))
    );
    // What asks may fail like a step, and panic like one.
    let asks = |_: &Input<'_>| Err::<bool, _>(Failure::new("who knows"));
    let report = branched(says("a").only_if(asks)).run(store! {}).await;
    assert_eq!(line(&report), "a failure, good not_run, bad success, end success");
    let panics = |_: &Input<'_>| -> bool { panic!("no") };
    let report = branched(says("a").bypass(panics)).run(store! {}).await;
    assert_eq!(line(&report), "a exception, good not_run, bad success, end success");
}

#[tokio::test]
async fn a_success_that_ends_the_run_before_its_branch_is_a_stop_and_at_the_end_a_success() {
    let last = says("a").stop_on_success(true);
    let report = Pipeline::new("p").step(last.clone()).build().unwrap().run(store! {}).await;
    assert_eq!(report.status(), Status::Success);
    let cut = Pipeline::new("p").step(last).on_success(says("b")).build().unwrap();
    assert_eq!(cut.run(store! {}).await.status(), Status::Stopped);
}

#[tokio::test]
async fn a_pipeline_inside_that_fails_is_a_step_that_fails() {
    let fails = || StepDef::fallible("no", |_| Err(Failure::new("no").into()));
    let strict = Pipeline::new("inner").step(says("a")).step(fails()).step(says("b"));
    let lenient = strict.clone().lenient().build().unwrap();
    let strict = strict.build().unwrap();
    for (inner, left) in [(strict, false), (lenient, true)] {
        let pipeline = Pipeline::new("p").step(inner).on_failure(says("mend")).step(says("end"));
        let report = pipeline.build().unwrap().run(store! {}).await;
        assert_eq!(report.status(), Status::Success);
        assert_eq!(report.step("inner").unwrap().status, StepStatus::Failure);
        assert!(report.store().has("mend"));
        let inside = report.step("inner").unwrap().inside.clone().unwrap();
        assert_eq!(inside.store().has("b"), left);
        assert_eq!(inside.status(), Status::Failure);
    }
}

#[tokio::test]
async fn one_pipeline_may_be_inside_twice_under_two_names_and_its_types_are_checked() {
    #[step]
    fn double(n: u64) -> u64 {
        n * 2
    }
    let inner = Pipeline::new("inner").input::<u64>("n").step(double).build().unwrap();
    let again = inner.clone().named("again").bind("n", "double");
    let pipeline = Pipeline::new("p").step(inner.clone()).step(again).build().unwrap();
    let report = pipeline.run(store! { "n" => 3_u64 }).await;
    assert_eq!(*report.get::<u64>("double").unwrap(), 12, "{report}");
    let error = Pipeline::new("p").step(inner.clone()).step(inner.clone()).build().unwrap_err();
    assert!(error.to_string().contains("step `inner` comes twice"), "{error}");
    let text = StepDef::value("text", |_| "no").output("n").leaves::<String>().output("n");
    let error = Pipeline::new("p").step(text).step(inner.clone()).build().unwrap_err();
    assert!(error.to_string().contains("is needed as a u64"), "{error}");
    let wants = StepDef::value("wants", |_| ()).needs::<String>("double");
    let error = Pipeline::new("p").step(inner).step(wants).build().unwrap_err();
    assert!(error.to_string().contains("`double` is a u64 of step `inner`"), "{error}");
}

#[tokio::test]
async fn a_pipeline_inside_is_told_of_by_its_own_bus() {
    let (bus, heard) = (Bus::new(), Arc::new(Mutex::new(Vec::new())));
    let lines = Arc::clone(&heard);
    let on = bus.on(any());
    let hear =
        move |e: &Event| lines.lock().unwrap().push(format!("{} {}", e.event_type(), e.source()));
    on.run(hear).now().unwrap();
    let inner = Pipeline::new("inner").step(says("a")).observe(&bus).build().unwrap();
    let outer = Pipeline::new("outer").step(inner).observe(&bus).build().unwrap();
    let _ = outer.run(store! {}).await;
    let heard = heard.lock().unwrap().join("\n");
    let expected = "pipeline_start outer\nstep_start outer.inner\npipeline_start inner\n\
                    step_start inner.a\nstep_end inner.a\npipeline_end inner\n\
                    step_end outer.inner\npipeline_end outer";
    assert_eq!(heard, expected);
}
