//! What ends a run that is kept: someone asks for it, or it can't be kept any more.

use super::{Hang, Place, Scene, of, on_each_backend, run};
use railbus::{
    Cancel, ErrorKind, Flow, IntoStep, Pipeline, Status, StepDef,
    backend::RunState,
    executors::Threads,
    parallel,
    pipeline::{CancelReason, StepStatus},
    repeat, store,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

on_each_backend! {
    a_run_that_was_cancelled_comes_to_the_same_report_and_runs_nothing,
    whoever_asks_for_the_end_of_a_run_elsewhere_ends_what_awaits_and_what_is_on_a_thread,
    a_bus_that_closes_under_a_run_stops_it_and_names_the_step,
    a_store_that_may_not_be_written_any_more_stops_the_run_and_names_the_step,
    an_event_whose_run_was_cancelled_elsewhere_is_not_tried_again_until_it_is_redriven,
    a_run_that_was_left_and_cancelled_does_not_begin_anew_when_its_event_comes_again,
}

const LEASE: Duration = Duration::from_millis(300);

async fn a_run_that_was_cancelled_comes_to_the_same_report_and_runs_nothing(place: Place) {
    let (scene, hang, cancel) = (Scene::on(place), Hang::default(), Cancel::new());
    let bus = scene.bus().await;
    let inner = repeat(StepDef::of(hang.clone())).times(2).named("again");
    let pipeline = Pipeline::new("p").step(scene.says("a")).step(inner).step(scene.says("z"));
    let pipeline = pipeline.build().unwrap();
    let begun = pipeline.run(store! {}).cancel_on(&cancel).journal(&bus, "run").unwrap();
    let (first, ()) = tokio::join!(begun, async {
        hang.reached().await;
        cancel.cancel();
    });
    assert_eq!(first.cancelled(), Some((Some("again"), CancelReason::Asked)));
    assert_eq!(scene.called(), "a");
    for again in [run(&pipeline, &bus, "run").await, pipeline.resume(&bus, "run").unwrap().await] {
        assert_eq!((again.status(), again.cancelled()), (first.status(), first.cancelled()));
        assert_eq!(again.error().unwrap().line(), first.error().unwrap().line());
        assert_eq!(again.step("again").unwrap().status, StepStatus::Cancelled);
        assert_eq!(again.step("z").unwrap().status, StepStatus::NotRun);
        assert_eq!(*again.get::<String>("a").unwrap(), "a");
    }
    assert_eq!(scene.called(), "", "a run that is over runs nothing");

    // One that took too long, and one that was left and cancelled then.
    let late = Pipeline::new("late").step(StepDef::of(Hang::default())).build().unwrap();
    let limit = Duration::from_millis(20);
    let first = late.run(store! {}).timeout(limit).journal(&bus, "late").unwrap().await;
    let again = late.resume(&bus, "late").unwrap().await;
    assert_eq!(first.cancelled(), Some((Some("hang"), CancelReason::Timeout)));
    assert_eq!(again.cancelled(), first.cancelled());
    let hang = Hang::default();
    let left = Pipeline::new("left").step(scene.says("b")).step(StepDef::of(hang.clone()));
    let left = left.step(scene.says("c")).build().unwrap();
    scene.dies(left.run(store! {}).journal(&bus, "left").unwrap(), &hang).await;
    assert_eq!(bus.journal().unwrap().cancel("left").await.unwrap(), RunState::Left);
    let again = left.resume(&bus, "left").unwrap().await;
    assert_eq!(again.cancelled(), Some((None, CancelReason::Asked)), "{again}");
    assert_eq!(scene.called(), "b");
}

async fn whoever_asks_for_the_end_of_a_run_elsewhere_ends_what_awaits_and_what_is_on_a_thread(
    place: Place,
) {
    let scene = Scene::on(place);
    let (bus, other) = (scene.bus().await, scene.bus().await);
    let (hang, told) = (Hang::default(), Arc::new(AtomicBool::new(false)));
    let (on_thread, hears) = (Arc::new(AtomicBool::new(false)), Arc::clone(&told));
    let begun = Arc::clone(&on_thread);
    let works = StepDef::fallible("works", move |input| {
        begun.store(true, Ordering::SeqCst);
        while !input.is_cancelled() {
            thread::yield_now();
        }
        hears.store(true, Ordering::SeqCst);
        Ok(Flow::next(1))
    });
    let both = parallel((StepDef::of(hang.clone()), works.executor(Threads::new(1))));
    let pipeline = Pipeline::new("p").step(both).step(scene.says("z")).build().unwrap();
    let begun = pipeline.run(store! {}).journal(&bus, "run").unwrap().lease(LEASE);
    let (report, ()) = tokio::join!(begun, async {
        hang.reached().await;
        while !on_thread.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        assert_eq!(other.journal().unwrap().cancel("run").await.unwrap(), RunState::Running);
    });
    assert_eq!(report.cancelled(), Some((Some("hang"), CancelReason::Asked)), "{report}");
    assert_eq!(report.step("works").unwrap().status, StepStatus::Cancelled);
    assert_eq!(scene.called(), "");
    while !told.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let info = other.journal().unwrap().find("run").await.unwrap().unwrap().run;
    assert_eq!((info.state.name(), info.cancel_asked), ("cancelled", true));
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_full_disk_stops_the_run_and_names_the_step_and_with_room_it_goes_on() {
    let scene = Scene::on(Place::sqlite());
    let bus = scene.place.bus("?max_size=600000").await;
    let large = |name: &str| {
        let (says, name) = (Arc::clone(&scene.calls), name.to_owned());
        StepDef::value(name.clone(), move |_| {
            says.lock().unwrap().push(name.clone());
            "x".repeat(300_000)
        })
    };
    let pipeline = Pipeline::new("p").step(large("a")).step(large("b")).step(scene.says("z"));
    let pipeline = pipeline.build().unwrap();
    let report = run(&pipeline, &bus, "run").await;
    let error = of(&report);
    assert_eq!((error.kind(), report.status()), (ErrorKind::Full, Status::Exception), "{report}");
    assert!(error.to_string().contains("step: b"), "{error}");
    assert_eq!(scene.called(), "a b", "nothing follows what is not recorded");
    // Still full: it goes on to where it stood, and no further. Nobody has to wait for a lease.
    let report = run(&pipeline, &bus, "run").await;
    assert_eq!((of(&report).kind(), scene.called().as_str()), (ErrorKind::Full, "b"));
    bus.close().await.unwrap();
    let bus = scene.bus().await;
    let report = pipeline.resume(&bus, "run").unwrap().await;
    assert_eq!((report.status(), scene.called().as_str()), (Status::Success, "b z"), "{report}");
}

async fn a_bus_that_closes_under_a_run_stops_it_and_names_the_step(place: Place) {
    let scene = Scene::on(place);
    let bus = scene.bus().await;
    let pipeline = Pipeline::new("p").step(StepDef::of(Closes(bus.clone()))).step(scene.says("z"));
    let pipeline = pipeline.build().unwrap();
    let report = run(&pipeline, &bus, "run").await;
    assert_eq!(of(&report).kind(), ErrorKind::Closed, "{report}");
    assert!(of(&report).to_string().contains("step: closes"), "{report}");
    assert_eq!(scene.called(), "");
    assert_eq!(of(&run(&pipeline, &bus, "run").await).kind(), ErrorKind::Closed);
    scene.place.expire();
    let bus = scene.bus().await;
    let pipeline = Pipeline::new("p").step(StepDef::value("closes", |_| 1)).step(scene.says("z"));
    let report = pipeline.build().unwrap().resume(&bus, "run").unwrap().await;
    assert_eq!((report.status(), scene.called().as_str()), (Status::Success, "z"), "{report}");
}

struct Closes(railbus::Bus);

#[async_trait::async_trait]
impl railbus::step::Step for Closes {
    fn signature(&self) -> railbus::step::Signature {
        railbus::step::Signature::new("closes")
    }

    async fn run(&self, _: railbus::step::Input<'_>) -> railbus::StepResult {
        self.0.close().await?;
        Ok(Flow::next(1))
    }
}

async fn a_store_that_may_not_be_written_any_more_stops_the_run_and_names_the_step(place: Place) {
    let scene = Scene::on(place);
    let bus = scene.bus().await;
    // As if the file system had been remounted: every write is refused, whoever asks.
    let place = Arc::clone(&scene.place);
    let locks = StepDef::value("locks", move |_| place.refuse_records(true));
    let pipeline = Pipeline::new("p").step(scene.says("a")).step(locks).step(scene.says("z"));
    let pipeline = pipeline.build().unwrap();
    let report = run(&pipeline, &bus, "run").await;
    assert!(of(&report).to_string().contains("step: locks"), "{report}");
    assert_eq!(scene.called(), "a");
    scene.place.refuse_records(false);
    let again = Pipeline::new("p").step(scene.says("a")).step(StepDef::value("locks", |_| ()));
    let again = again.step(scene.says("z")).build().unwrap().resume(&bus, "run").unwrap().await;
    assert_eq!((again.status(), scene.called().as_str()), (Status::Success, "z"), "{again}");
}

async fn an_event_whose_run_was_cancelled_elsewhere_is_not_tried_again_until_it_is_redriven(
    place: Place,
) {
    let (scene, hang) = (Scene::on(place), Hang::default());
    let (bus, other) = (scene.bus().await, scene.bus().await);
    let pipeline = Pipeline::new("p").step(scene.says("a")).step(StepDef::of(hang.clone()));
    let pipeline = pipeline.durable(&bus).lease(LEASE).build().unwrap();
    let retry = railbus::Retry::attempts(5).backoff_factor(Duration::from_millis(1));
    bus.on("order").group("g").retry(retry).run(pipeline).await.unwrap();
    bus.publish(railbus::Event::new("order").id("e-1")).await.unwrap();
    hang.reached().await;
    assert_eq!(other.journal().unwrap().cancel("p:e-1").await.unwrap(), RunState::Running);
    bus.idle().await.unwrap();
    assert_eq!(scene.called(), "a");
    let keeper = other.keeper().unwrap();
    let letters = keeper.letters(&railbus::backend::LetterFilter::default()).await.unwrap();
    assert!(letters[0].reason.contains("the run was cancelled"), "{}", letters[0].reason);
    assert_eq!((letters.len(), letters[0].attempts), (1, 1));
    // Whoever hands it out again wants it.
    keeper.redrive(&[letters[0].id.clone()]).await.unwrap();
    bus.idle().await.unwrap();
    assert_eq!(scene.called(), "a");
    let run = other.journal().unwrap().find("p:e-1#2").await.unwrap().unwrap().run;
    assert_eq!(run.state.name(), "success");
    bus.close().await.unwrap();
}

async fn a_run_that_was_left_and_cancelled_does_not_begin_anew_when_its_event_comes_again(
    place: Place,
) {
    let (scene, hang) = (Scene::on(place), Hang::default());
    let bus = scene.bus().await;
    let pipeline = Pipeline::new("p").step(scene.says("a")).step(StepDef::of(hang.clone()));
    let pipeline = pipeline.durable(&bus).build().unwrap();
    let event = railbus::Event::from(railbus::Event::new("order").id("e-1"));
    scene.dies(pipeline.run_event(&event, 1), &hang).await;
    assert_eq!(bus.journal().unwrap().cancel("p:e-1").await.unwrap(), RunState::Left);
    let again = pipeline.run_event(&event, 2).await;
    assert_eq!((again.status(), again.id()), (Status::Cancelled, Some("p:e-1")), "{again}");
    assert_eq!(scene.called(), "a");
    let error = again.into_result().unwrap_err();
    let source = std::error::Error::source(&*error).unwrap();
    assert!(source.downcast_ref::<railbus::Failure>().is_some(), "{error}");
    let anew = pipeline.run_event(&event, 1).await;
    assert_eq!((anew.status(), anew.id()), (Status::Success, Some("p:e-1#2")), "{anew}");
    // That one is the event's now, whatever became of the first.
    assert_eq!(pipeline.run_event(&event, 2).await.id(), Some("p:e-1#2"));
}
