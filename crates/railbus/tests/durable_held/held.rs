//! One holder at a time, and what others are told.

use super::{Hang, Place, Scene, of, on_each_backend, run};
use railbus::{ErrorKind, Event, Pipeline, Status, StepDef, step, store};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

on_each_backend! {
    whoever_comes_second_is_told_who_has_the_run_and_for_how_long,
    a_key_that_is_used_by_many_at_once_runs_its_steps_once,
    whoever_waits_for_a_key_comes_to_the_report_of_whoever_runs_it,
    a_step_that_holds_its_thread_for_longer_than_the_lease_keeps_the_run,
    an_event_that_comes_again_while_its_run_is_held_waits_for_it_and_burns_no_try,
    a_holder_that_lost_its_run_ends_as_stale_and_overwrites_nothing,
}

async fn whoever_comes_second_is_told_who_has_the_run_and_for_how_long(place: Place) {
    let (scene, hang) = (Scene::on(place), Hang::default());
    let (one, two) = (scene.bus().await, scene.bus().await);
    let pipeline =
        Pipeline::new("p").step(scene.says("a")).step(StepDef::of(hang.clone())).build().unwrap();
    let first = pipeline.run(store! {}).journal(&one, "run").unwrap();
    tokio::select! {
        report = first => panic!("{report}"),
        () = hang.reached() => {}
    }
    for bus in [&one, &two] {
        for report in [run(&pipeline, bus, "run").await, pipeline.resume(bus, "run").unwrap().await]
        {
            let error = of(&report);
            assert_eq!((error.kind(), report.status()), (ErrorKind::Stale, Status::Exception));
            let said = error.to_string();
            let owner = format!("owner: process {}", std::process::id());
            assert!(said.contains("someone else runs it") && said.contains(&owner), "{said}");
            assert!(said.contains("run: run") && said.contains("held for: 29."), "{said}");
            assert!(report.path().next().is_none(), "{report}");
        }
    }
    scene.place.expire();
    assert_eq!(run(&pipeline, &two, "run").await.status(), Status::Success);
    assert_eq!(scene.called(), "a");
    // A pipeline that says how long says so of each run.
    let hang = Hang::default();
    let long = Pipeline::new("long").step(StepDef::of(hang.clone())).lease(Duration::from_secs(90));
    let long = long.build().unwrap();
    tokio::select! {
        report = long.run(store! {}).journal(&one, "long").unwrap() => panic!("{report}"),
        () = hang.reached() => {}
    }
    let report = run(&long, &two, "long").await;
    assert!(of(&report).to_string().contains("held for: 89."), "{report}");
}

async fn a_key_that_is_used_by_many_at_once_runs_its_steps_once(place: Place) {
    let scene = Scene::on(place);
    let buses = [scene.bus().await, scene.bus().await];
    let pipeline = Pipeline::new("p").step(scene.says("a")).step(scene.says("b")).build().unwrap();
    let tasks: Vec<_> = (0..30)
        .map(|n| {
            let (pipeline, bus) = (pipeline.clone(), buses[n % 2].clone());
            tokio::spawn(async move {
                let run = pipeline.run(store! { "n" => n }).journal(&bus, "order-7").unwrap();
                run.await
            })
        })
        .collect();
    let mut came = Vec::new();
    for task in tasks {
        let report = task.await.unwrap();
        match report.status() {
            Status::Success => came.push(report.store().to_json().unwrap()),
            _ => assert_eq!(of(&report).kind(), ErrorKind::Stale, "{report}"),
        }
    }
    let last = run(&pipeline, &buses[1], "order-7").await;
    // Also what it was given is that of whoever began it.
    assert!(!came.is_empty() && came.iter().all(|one| *one == last.store().to_json().unwrap()));
    assert_eq!(scene.called(), "a b");
}

async fn whoever_waits_for_a_key_comes_to_the_report_of_whoever_runs_it(place: Place) {
    let scene = Scene::on(place);
    let buses = [scene.bus().await, scene.bus().await];
    let pipeline = Pipeline::new("p").step(scene.says("a")).step(scene.says("b")).build().unwrap();
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let run = pipeline.run(store! { "n" => n }).journal(&buses[n % 2], "order-7").unwrap();
            tokio::spawn(run.when_free())
        })
        .collect();
    let mut came = Vec::new();
    for task in tasks {
        let report = task.await.unwrap();
        assert_eq!(report.status(), Status::Success, "{report}");
        came.push(report.store().to_json().unwrap());
    }
    came.dedup();
    assert_eq!((came.len(), scene.called().as_str()), (1, "a b"));
    // One that waits can be given up.
    let hang = Hang::default();
    let held = Pipeline::new("held").step(StepDef::of(hang.clone())).build().unwrap();
    let run = |bus| held.run(store! {}).journal(bus, "held").unwrap();
    tokio::select! {
        report = run(&buses[0]) => panic!("{report}"),
        () = hang.reached() => {}
    }
    let report = run(&buses[1]).when_free().timeout(Duration::from_millis(30)).await;
    assert_eq!(of(&report).kind(), ErrorKind::Stale, "{report}");
}

async fn a_step_that_holds_its_thread_for_longer_than_the_lease_keeps_the_run(place: Place) {
    let scene = Scene::on(place);
    let (one, two) = (scene.bus().await, scene.bus().await);
    let (begun, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (says, waits) = (Arc::clone(&begun), Arc::clone(&go));
    let holds = StepDef::value("holds", move |_| {
        let is_second = says.swap(true, Ordering::SeqCst);
        while !is_second && !waits.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    });
    let pipeline = Pipeline::new("p").step(holds).build().unwrap();
    let lease = Duration::from_millis(150);
    let first = pipeline.run(store! {}).journal(&one, "run").unwrap().lease(lease);
    let first = tokio::spawn(first);
    while !begun.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    let began = std::time::Instant::now();
    while began.elapsed() < lease * 4 {
        let report = run(&pipeline, &two, "run").await;
        assert_eq!(of(&report).kind(), ErrorKind::Stale, "{report}");
        // sleep: the lease would end by time alone.
        tokio::time::sleep(lease / 10).await;
    }
    go.store(true, Ordering::SeqCst);
    assert_eq!(first.await.unwrap().status(), Status::Success);
}

async fn an_event_that_comes_again_while_its_run_is_held_waits_for_it_and_burns_no_try(
    place: Place,
) {
    let (scene, hang) = (Scene::on(place), Hang::default());
    let (one, two) = (scene.bus().await, scene.bus().await);
    let build = |bus| {
        let pipeline = Pipeline::new("p").step(scene.says("a")).step(StepDef::of(hang.clone()));
        pipeline.step(scene.says("z")).durable(bus).lease(Duration::from_millis(300)).build()
    };
    let event = Event::from(Event::new("order").id("e-1"));
    let first = build(&one).unwrap();
    tokio::select! {
        report = first.run_event(&event, 1) => panic!("{report}"),
        () = hang.reached() => {}
    }
    // Its process is dead, and the lease has a while to go.
    let report = build(&two).unwrap().run_event(&event, 2).await;
    assert_eq!((report.status(), report.id()), (Status::Success, Some("p:e-1")), "{report}");
    assert_eq!(scene.called(), "a z");
}

async fn a_holder_that_lost_its_run_ends_as_stale_and_overwrites_nothing(place: Place) {
    let scene = Scene::on(place);
    let (one, two) = (scene.bus().await, scene.bus().await);
    let Opens(gate) = Opens::default();
    let slow = StepDef::of(Opens(Arc::clone(&gate)));
    let pipeline = Pipeline::new("p").step(slow).step(scene.says("z")).build().unwrap();
    let first = pipeline.run(store! {}).journal(&one, "run").unwrap();
    let first = tokio::spawn(first);
    gate.1.notified().await;
    scene.place.expire();
    // The other runs the step too, which is not recorded yet, and comes through.
    let mut taken = run(&pipeline, &two, "run").await;
    if taken.status() == Status::Exception {
        // The first had a write on its way, which began its lease anew.
        scene.place.expire();
        taken = run(&pipeline, &two, "run").await;
    }
    assert_eq!(taken.status(), Status::Success, "{taken}");
    let value = taken.store().to_json().unwrap();
    gate.0.notify_one();
    let lost = first.await.unwrap();
    assert_eq!((of(&lost).kind(), lost.status()), (ErrorKind::Stale, Status::Exception), "{lost}");
    // By its next renewal or by its record, whichever comes first.
    assert!(of(&lost).to_string().contains("has taken it over"), "{lost}");
    assert_eq!(scene.called(), "z", "what follows a step that was not recorded does not run");
    assert_eq!(run(&pipeline, &one, "run").await.store().to_json().unwrap(), value);
}

/// Waits the first time until it is let through; leaves which time it is.
#[derive(Default)]
struct Opens(Arc<(tokio::sync::Notify, tokio::sync::Notify, std::sync::atomic::AtomicU32)>);

#[async_trait::async_trait]
impl step::Step for Opens {
    fn signature(&self) -> step::Signature {
        step::Signature::new("opens")
    }

    async fn run(&self, _: step::Input<'_>) -> railbus::StepResult {
        let time = self.0.2.fetch_add(1, Ordering::SeqCst);
        if time == 0 {
            self.0.1.notify_one();
            self.0.0.notified().await;
        }
        Ok(railbus::Flow::next(time))
    }
}
