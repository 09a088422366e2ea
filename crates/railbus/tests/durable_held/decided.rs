//! What was decided once is not decided again, and what was read once is read as it was written.

use super::{Hang, Place, Scene, on_each_backend};
use railbus::{
    Flow, IntoStep, Pipeline, Retry, Status, StepDef, chain, parallel, repeat, step::Input, store,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

on_each_backend! {
    how_often_a_step_repeats_is_not_decided_again,
    whether_a_nested_pipeline_runs_is_not_decided_again,
    a_limit_inside_a_run_cuts_off_what_it_cut_off_before,
    what_a_sibling_had_done_before_a_group_failed_fast_is_there_again,
    a_value_that_is_not_what_a_step_needs_any_more_is_named_with_the_step,
}

async fn how_often_a_step_repeats_is_not_decided_again(place: Place) {
    let (scene, hang) = (Scene::on(place), Hang::default());
    let bus = scene.bus().await;
    // A condition that looks at something else than the run's values: three times, then never.
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let again = repeat(scene.says("r"));
    let again = again.as_long_as(move |_: &Input<'_>| count.fetch_add(1, Ordering::SeqCst) < 3);
    let pipeline = Pipeline::new("p").step(again.named("again")).step(StepDef::of(hang.clone()));
    let pipeline = pipeline.step(scene.says("z")).build().unwrap();
    scene.dies(pipeline.run(store! {}).journal(&bus, "run").unwrap(), &hang).await;
    assert_eq!((scene.called().as_str(), asked.load(Ordering::SeqCst)), ("r r r", 4));
    // The decision to go on no more was not recorded yet: nothing that is kept rests on it.
    asked.store(3, Ordering::SeqCst);
    let report = pipeline.resume(&bus, "run").unwrap().await;
    assert_eq!((report.status(), scene.called().as_str()), (Status::Success, "z"), "{report}");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    // It is over: nobody is asked any more.
    asked.store(0, Ordering::SeqCst);
    let over = pipeline.resume(&bus, "run").unwrap().await;
    assert_eq!((over.status(), asked.load(Ordering::SeqCst)), (Status::Success, 0), "{over}");
    assert_eq!(over.store().to_json().unwrap(), report.store().to_json().unwrap());
    assert_eq!(scene.called(), "");
}

async fn whether_a_nested_pipeline_runs_is_not_decided_again(place: Place) {
    let scene = Scene::on(place);
    let bus = scene.bus().await;
    for (id, runs) in [("runs", true), ("runs not", false)] {
        let hang = Hang::default();
        let on = Arc::new(AtomicBool::new(runs));
        let says = Arc::clone(&on);
        let inner = Pipeline::new("inner").step(scene.says("x")).step(scene.says("y"));
        let inner = inner.build().unwrap();
        let inner = inner.only_if(move |_: &Input<'_>| says.load(Ordering::SeqCst));
        let pipeline = Pipeline::new("p").step(inner).step(scene.says("m"));
        let pipeline = pipeline.step(StepDef::of(hang.clone())).build().unwrap();
        scene.dies(pipeline.run(store! {}).journal(&bus, id).unwrap(), &hang).await;
        assert_eq!(scene.called(), if runs { "x y m" } else { "m" });
        on.store(!runs, Ordering::SeqCst);
        let report = pipeline.resume(&bus, id).unwrap().await;
        assert_eq!((report.status(), scene.called().as_str()), (Status::Success, ""), "{report}");
        assert_eq!(report.store().has("y"), runs, "{report}");
    }
}

async fn a_limit_inside_a_run_cuts_off_what_it_cut_off_before(place: Place) {
    let (scene, hang) = (Scene::on(place), Hang::default());
    let bus = scene.bus().await;
    // Too slow on the first try, quick on every other one.
    let slow = Hang::default();
    let inner = Pipeline::new("inner").step(scene.says("x")).step(StepDef::of(slow).named("slow"));
    let inner = inner.timeout(Duration::from_millis(50)).build().unwrap();
    let retry = Retry::attempts(2).backoff_factor(Duration::from_millis(1));
    let pipeline = Pipeline::new("p").step(inner.retry(retry)).step(scene.says("m"));
    let pipeline = pipeline.step(StepDef::of(hang.clone())).build().unwrap();
    scene.dies(pipeline.run(store! {}).journal(&bus, "run").unwrap(), &hang).await;
    assert_eq!(scene.called(), "x x m");
    let journal = bus.journal().unwrap();
    let places = journal.load("run").await.unwrap().unwrap().records;
    let places: Vec<_> = places
        .iter()
        .map(|one| format!("{} {} {}", one.record.path, one.record.visit, one.record.status))
        .collect();
    let expected = [
        "inner/x 1 success",
        "inner/slow 1 cancelled",
        "inner! 1 decision",
        "inner/x 2 success",
        "inner/slow 2 success",
        "m 1 success",
    ];
    assert_eq!(places, expected);
    let report = pipeline.resume(&bus, "run").unwrap().await;
    assert_eq!((report.status(), scene.called().as_str()), (Status::Success, ""), "{report}");
    assert_eq!(report.step("inner").unwrap().tries, 2);
}

async fn what_a_sibling_had_done_before_a_group_failed_fast_is_there_again(place: Place) {
    let (scene, hang, stuck) = (Scene::on(place), Hang::default(), Hang::default());
    let bus = scene.bus().await;
    let waits = stuck.clone();
    let fails = StepDef::of(Fails(waits));
    let beside = chain((scene.says("b1"), StepDef::of(stuck).named("b2"), scene.says("b3")));
    let group = parallel((fails, beside)).fail_fast().named("both");
    let pipeline = Pipeline::new("p").step(group).on_failure(scene.says("sorry"));
    let pipeline = pipeline.step(StepDef::of(hang.clone())).build().unwrap();
    scene.dies(pipeline.run(store! {}).journal(&bus, "run").unwrap(), &hang).await;
    assert_eq!(scene.called(), "b1 sorry");
    let report = pipeline.resume(&bus, "run").unwrap().await;
    assert_eq!((report.status(), scene.called().as_str()), (Status::Success, ""), "{report}");
    assert!(report.store().has("b1") && !report.store().has("b2"), "{report}");
}

/// Fails once the other one is at work.
struct Fails(Hang);

#[async_trait::async_trait]
impl railbus::step::Step for Fails {
    fn signature(&self) -> railbus::step::Signature {
        railbus::step::Signature::new("fails")
    }

    async fn run(&self, _: Input<'_>) -> railbus::StepResult {
        self.0.reached().await;
        Err(railbus::Failure::new("no").into())
    }
}

async fn a_value_that_is_not_what_a_step_needs_any_more_is_named_with_the_step(place: Place) {
    let (scene, hang) = (Scene::on(place), Hang::default());
    let bus = scene.bus().await;
    let line = |as_number: bool| {
        let total = StepDef::fallible("total", move |input| match as_number {
            true => Ok(Flow::next(*input.get::<u32>("amount")?)),
            false => Ok(Flow::next(input.get::<String>("amount")?.len())),
        });
        let amount = StepDef::value("amount", |_| "seven");
        let line = Pipeline::new("p").step(amount).step(StepDef::of(hang.clone()));
        line.step(total).build().unwrap()
    };
    scene.dies(line(false).run(store! {}).journal(&bus, "run").unwrap(), &hang).await;
    let report = line(true).resume(&bus, "run").unwrap().await;
    assert_eq!(report.status(), Status::Exception);
    let error = report.into_result().unwrap_err().to_string();
    assert!(error.contains("step total") && error.contains("`amount` is not a u32"), "{error}");
}
