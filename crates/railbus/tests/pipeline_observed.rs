//! Pipelines that a bus hears of, and what ends them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Event, Failure, Flow, Pipeline, Retry, Status, StepDef, Store, Type, Value, any, json,
    pipeline::{StepStatus, StopReason},
    step::{Bypass, Exception, Input, Signature, Step, StepError, StepResult},
    store,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

struct Load;

#[async_trait::async_trait]
impl Step for Load {
    fn signature(&self) -> Signature {
        Signature::new("Load").output::<Vec<i64>>("data")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        Ok(Flow::next(vec![1i64, 2, 3]))
    }
}

struct Sum;

#[async_trait::async_trait]
impl Step for Sum {
    fn signature(&self) -> Signature {
        Signature::new("Sum").needs::<Vec<i64>>("data").output::<i64>("sum")
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        Ok(Flow::next(input.get::<Vec<i64>>("data")?.iter().sum::<i64>()))
    }
}

fn boom() -> StepDef {
    StepDef::fallible("Boom", |_| Err("Boom!".into()))
}

type Lines = Arc<Mutex<Vec<String>>>;

fn notebook(bus: &Bus) -> Lines {
    let lines = Lines::default();
    let say = |lines: &Lines| {
        let lines = Arc::clone(lines);
        move |line: String| lines.lock().unwrap().push(line)
    };
    let global = say(&lines);
    let on = bus.on(any()).priority(0);
    on.run(move |e: &Event| global(format!("[GLOBAL] -> {}", e.source()))).now().unwrap();
    for of in [Type::PIPELINE_START, Type::PIPELINE_END, Type::STEP_START, Type::STEP_END] {
        let typed = say(&lines);
        let tell = move |e: &Event| typed(format!("[{}] -> {}", e.event_type(), e.source()));
        bus.on(of).run(tell).now().unwrap();
    }
    let failed = say(&lines);
    let tell = move |e: &Event| failed(format!("[ERROR] -> {}", e.get("error").unwrap_or("?")));
    bus.on(Type::STEP_ERROR).run(tell).now().unwrap();
    lines
}

#[tokio::test]
async fn the_notebooks_observed_pipeline_tells_what_the_notebook_prints() {
    let bus = Bus::new();
    let lines = notebook(&bus);
    let demo = Pipeline::new("Demo").step(Load).step(Sum).observe(&bus).build().unwrap();
    let report = demo.run(Store::new()).await;
    assert_eq!(report.store().to_json().unwrap(), r#"{"data":[1,2,3],"sum":6}"#);
    let told = std::mem::take(&mut *lines.lock().unwrap());
    assert_eq!(
        told,
        [
            "[GLOBAL] -> Demo",
            "[pipeline_start] -> Demo",
            "[GLOBAL] -> Demo.Load",
            "[step_start] -> Demo.Load",
            "[GLOBAL] -> Demo.Load",
            "[step_end] -> Demo.Load",
            "[GLOBAL] -> Demo.Sum",
            "[step_start] -> Demo.Sum",
            "[GLOBAL] -> Demo.Sum",
            "[step_end] -> Demo.Sum",
            "[GLOBAL] -> Demo",
            "[pipeline_end] -> Demo",
        ]
    );
}

#[tokio::test]
async fn a_step_error_is_told_and_then_the_pipelines_and_no_end() {
    let bus = Bus::new();
    let lines = notebook(&bus);
    let demo = Pipeline::new("ErrDemo").step(boom()).observe(&bus).build().unwrap();
    assert_eq!(demo.run(Store::new()).await.status(), Status::Exception);
    assert_eq!(
        *lines.lock().unwrap(),
        [
            "[GLOBAL] -> ErrDemo",
            "[pipeline_start] -> ErrDemo",
            "[GLOBAL] -> ErrDemo.Boom",
            "[step_start] -> ErrDemo.Boom",
            "[GLOBAL] -> ErrDemo.Boom",
            "[ERROR] -> Boom!",
            "[GLOBAL] -> ErrDemo",
        ]
    );
}

/// Collects the payloads of all lifecycle events by type.
fn payloads(bus: &Bus) -> Arc<Mutex<Vec<(String, Value)>>> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&all);
    let keep = move |e: &Event| {
        let mut payload = e.payload::<Value>().unwrap();
        // Times differ.
        if let Some(duration) = payload.get_mut("duration") {
            assert!(duration.as_f64().is_some_and(|seconds| seconds >= 0.0));
            *duration = json!("some");
        }
        seen.lock().unwrap().push((e.event_type().to_owned(), payload));
    };
    bus.on(any()).run(keep).now().unwrap();
    all
}

#[tokio::test(start_paused = true)]
async fn lifecycle_events_say_index_attempt_duration_status_and_error() {
    let bus = Bus::new();
    let all = payloads(&bus);
    let flaky = StepDef::fallible("flaky", |input| match input.step_try() {
        1 => Err(StepError::Exception(Exception::new("net", "reset"))),
        _ => Err(Failure::new("no").into()),
    });
    let retry = Retry::attempts(3).backoff_factor(Duration::from_secs(2));
    let built = Pipeline::new("p").step(Load).step(flaky.retry(retry)).observe(&bus).build();
    assert_eq!(built.unwrap().run(store! {}).await.status(), Status::Failure);
    let told = std::mem::take(&mut *all.lock().unwrap());
    let expected = [
        ("pipeline_start", json!({"pipeline": "p"})),
        ("step_start", json!({"index": 0, "attempt": 1})),
        ("step_end", json!({"index": 0, "attempt": 1, "duration": "some", "status": "success"})),
        ("step_start", json!({"index": 1, "attempt": 1})),
        (
            "step_retry",
            json!({"index": 1, "attempt": 1, "duration": "some", "status": "exception",
                   "error": "reset", "error_kind": "net", "again_in": 2.0}),
        ),
        (
            "step_error",
            json!({"index": 1, "attempt": 2, "duration": "some", "status": "failure",
                   "error": "no", "error_kind": "failure"}),
        ),
        (
            "pipeline_error",
            json!({"pipeline": "p", "status": "failure", "duration": "some", "step": "flaky",
                   "error_kind": "failure", "error": "no"}),
        ),
    ];
    assert_eq!(told, expected.map(|(of, payload)| (of.to_owned(), payload)));
}

#[tokio::test]
async fn values_are_told_on_request_only_and_never_the_whole_store() {
    for (asked, inputs, outputs) in [(false, None, None), (true, Some("data"), Some("sum"))] {
        let bus = Bus::new();
        let all = payloads(&bus);
        let mut builder = Pipeline::new("p").step(Sum).observe(&bus);
        if asked {
            builder = builder.observe_values();
        }
        let pipeline = builder.build().unwrap();
        let report = pipeline.run(store! { "data" => vec![4i64], "secret" => "hunter2" }).await;
        assert_eq!(*report.get::<i64>("sum").unwrap(), 4);
        let told = all.lock().unwrap();
        let of = |name: &str| told.iter().find(|(of, _)| of == name).unwrap().1.clone();
        let only = |map: &Value| map.as_object().map(|m| m.keys().cloned().collect::<Vec<_>>());
        let keys = |name: Option<&str>| name.map(|name| vec![name.to_owned()]);
        assert_eq!(of("step_start").get("inputs").and_then(only), keys(inputs));
        assert_eq!(of("step_end").get("outputs").and_then(only), keys(outputs));
        assert!(!format!("{told:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn nothing_is_counted_stored_or_given_to_groups() {
    let bus = Bus::new();
    let _all = payloads(&bus);
    let report = Pipeline::new("p").step(Load).observe(&bus).build().unwrap().run(store! {}).await;
    assert_eq!(report.status(), Status::Success);
    let counters = bus.counters();
    assert_eq!((counters.published.get(), counters.succeeded.get()), (0, 0));
}

fn status_of(report: &railbus::RunReport) -> Vec<StepStatus> {
    report.steps().iter().map(|step| step.status).collect()
}

#[tokio::test]
async fn a_lenient_pipeline_goes_to_its_end_and_hides_nothing() {
    let no = StepDef::fallible("no", |_| Err(Failure::new("not me").into()));
    let steps = || Pipeline::new("p").step(no.clone()).step(boom()).step(Load);
    let report = steps().lenient().build().unwrap().run(store! {}).await;
    assert_eq!(report.status(), Status::Exception);
    assert_eq!(report.stopped(), None);
    let all = [StepStatus::Failure, StepStatus::Exception, StepStatus::Success];
    assert_eq!(status_of(&report), all);

    let strict = steps().build().unwrap().run(store! {}).await;
    assert_eq!(strict.status(), Status::Failure);
    assert_eq!(strict.stopped(), Some(("no", StopReason::Failure)));
}

#[tokio::test]
async fn a_step_decides_for_itself_what_ends_the_run() {
    let no = StepDef::fallible("no", |_| Err(Failure::new("not me").into()));
    let past = Pipeline::new("p").step(no.clone().stop_on_error(false)).step(Load);
    let report = past.build().unwrap().run(store! {}).await;
    assert_eq!((report.status(), report.stopped()), (Status::Failure, None));

    let stop = Pipeline::new("p").lenient().step(no.stop_on_error(true)).step(Load);
    let report = stop.build().unwrap().run(store! {}).await;
    assert_eq!(report.stopped(), Some(("no", StopReason::Failure)));
    assert_eq!(status_of(&report), [StepStatus::Failure, StepStatus::NotRun]);
}

#[tokio::test]
async fn a_stop_on_success_is_told_from_a_stop_on_failure() {
    let found = StepDef::value("found", |_| 7).stop_on_success(true);
    let report = Pipeline::new("p").step(found).step(boom()).build().unwrap().run(store! {}).await;
    assert_eq!(report.status(), Status::Stopped);
    assert_eq!(report.stopped(), Some(("found", StopReason::Success)));
    assert!(report.error().is_none());
    assert_eq!(*report.get::<i32>("found").unwrap(), 7);

    let asked = StepDef::fallible("asked", |_| Ok(Flow::stop(8)));
    let report = Pipeline::new("p").step(asked).step(boom()).build().unwrap().run(store! {}).await;
    assert_eq!(report.stopped(), Some(("asked", StopReason::Asked)));
    assert_eq!(*report.get::<i32>("asked").unwrap(), 8);
}

struct Bypassed;

#[async_trait::async_trait]
impl Step for Bypassed {
    fn signature(&self) -> Signature {
        Signature::new("clean").needs::<String>("text")
    }

    fn can_bypass(&self, input: &Input<'_>) -> StepResult<Bypass> {
        Ok(match input.get::<String>("text")?.contains(' ') {
            true => Bypass::No,
            false => Bypass::Pass,
        })
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        Ok(Flow::next(input.get::<String>("text")?.replace(' ', "")))
    }
}

#[tokio::test]
async fn a_bypassed_step_passes_on_what_came_and_is_reported_as_skipped() {
    let bus = Bus::new();
    let all = payloads(&bus);
    let pipeline = Pipeline::new("p").step(Bypassed).observe(&bus).build().unwrap();
    for (given, kept, status) in
        [("ab", "ab", StepStatus::Skipped), ("a b", "ab", StepStatus::Success)]
    {
        let report = pipeline.run(store! { "text" => given.to_owned() }).await;
        assert_eq!(*report.get::<String>("clean").unwrap(), kept);
        assert_eq!((report.status(), status_of(&report)), (Status::Success, vec![status]));
    }
    let skipped = json!({"index": 0, "reason": "bypassed"});
    let told = all.lock().unwrap();
    assert!(told.contains(&("step_skipped".into(), skipped)), "{told:?}");
}

#[tokio::test]
async fn a_pipeline_on_the_bus_that_it_tells_does_not_keep_it_alive() {
    let (bus, alive) = (Bus::new(), Arc::new(()));
    let watch = Arc::downgrade(&alive);
    bus.on("never").run(move |_: &Event| drop(Arc::clone(&alive))).await.unwrap();
    let pipeline = Pipeline::new("p").step(Load).observe(&bus).build().unwrap();
    bus.on("go").run(pipeline).await.unwrap();
    assert_eq!(bus.publish(Event::new("go")).await.unwrap().matched, 1);
    drop(bus);
    assert!(watch.upgrade().is_none());
}

#[tokio::test]
async fn a_run_that_ends_with_the_success_of_its_last_step_is_a_success_that_says_so() {
    let found = StepDef::value("found", |_| 7).stop_on_success(true);
    let asked = StepDef::fallible("asked", |_| Ok(Flow::stop(8)));
    for (last, status, reason) in [
        (found, Status::Success, StopReason::Success),
        // It says itself that the run is to stop.
        (asked, Status::Stopped, StopReason::Asked),
    ] {
        let name = last.name().to_owned();
        let report = Pipeline::new("p").step(Load).step(last).build().unwrap().run(store! {}).await;
        assert_eq!(report.status(), status, "{report}");
        assert_eq!(report.stopped(), Some((&*name, reason)));
    }
}

#[tokio::test]
async fn a_step_that_skips_is_told_of_as_skipped_in_place_of_its_end() {
    let bus = Bus::new();
    let all = payloads(&bus);
    let idle = StepDef::fallible("idle", |_| Ok(Flow::Skip));
    let pipeline = Pipeline::new("p").step(idle).observe(&bus).build().unwrap();
    assert_eq!(status_of(&pipeline.run(store! {}).await), [StepStatus::Skipped]);
    let told = all.lock().unwrap();
    let types: Vec<_> = told.iter().map(|(of, _)| of.as_str()).collect();
    assert_eq!(types, ["pipeline_start", "step_start", "step_skipped", "pipeline_end"]);
    assert_eq!(told[2].1, json!({"index": 0, "reason": "asked"}));
}

#[tokio::test]
async fn no_text_is_made_of_an_error_for_events_that_nobody_hears() {
    /// Counts how often it is shown.
    #[derive(Debug)]
    struct Counted(Arc<Mutex<usize>>);
    impl std::fmt::Display for Counted {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            *self.0.lock().unwrap() += 1;
            f.write_str("counted")
        }
    }
    impl std::error::Error for Counted {}
    let mut shown = Vec::new();
    for (observed, heard) in [(false, false), (true, false), (true, true)] {
        let (bus, count) = (Bus::new(), Arc::new(Mutex::new(0)));
        let error = Arc::clone(&count);
        let step = StepDef::fallible("s", move |_| Err(Counted(Arc::clone(&error)).into()));
        let retry = Retry::attempts(3).backoff_factor(Duration::ZERO);
        let mut builder = Pipeline::new("p").step(step.retry(retry));
        if observed {
            builder = builder.observe(&bus);
        }
        let _heard = heard.then(|| payloads(&bus));
        let report = builder.build().unwrap().run(store! {}).await;
        assert_eq!(report.steps()[0].tries, 3);
        shown.push(*count.lock().unwrap());
    }
    assert!(shown[0] == shown[1] && shown[1] < shown[2], "{shown:?}");
}

#[railbus::test]
async fn who_subscribes_during_a_run_hears_the_rest_and_who_cancels_hears_no_more() {
    let (bus, heard) = (Bus::new(), Lines::default());
    let subscribed = Arc::new(Mutex::new(None));
    let (on, lines, kept) = (bus.clone(), Arc::clone(&heard), Arc::clone(&subscribed));
    let subscribe = move |_: Input<'_>| {
        let lines = Arc::clone(&lines);
        let hear = move |e: &Event| {
            lines.lock().unwrap().push(format!("{} {}", e.event_type(), e.source()));
        };
        *kept.lock().unwrap() = Some(on.on("*").run(hear).now().unwrap());
    };
    let kept = Arc::clone(&subscribed);
    let cancel = move |_: Input<'_>| {
        kept.lock().unwrap().take().expect("it subscribed").cancel();
    };
    let line = Pipeline::new("p").observe(&bus).step(StepDef::value("opens", subscribe));
    let line = line.step(StepDef::value("between", |_| ())).step(StepDef::value("closes", cancel));
    let pipeline = line.step(StepDef::value("after", |_| ())).build().unwrap();
    // Twice: what a run heard is not what the next one hears.
    for _ in 0..2 {
        assert_eq!(pipeline.run(store! {}).await.status(), Status::Success);
        let expected = [
            "step_end p.opens",
            "step_start p.between",
            "step_end p.between",
            "step_start p.closes",
        ];
        assert_eq!(*std::mem::take(&mut *heard.lock().unwrap()), expected);
    }
}
