//! What the idspy document's code does, where it is right: `docs/differences.md` lists each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    BoxError, Bus, Event, IntoStep, Pipeline, Predicate, Report, StepDef, StepError, SyncHandler,
    any, event_type, has_key, json, key_equals,
    pipeline::Repeated,
    repeat, source_is, source_starts_with, step,
    step::{Flow, Input, Signature, Step, StepResult},
    store,
};
use std::sync::{Arc, Mutex};

/// What was called, in order.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn say(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Subscribes something that only says its name.
    fn on(&self, bus: &Bus, which: impl Into<Predicate>, name: &'static str) {
        self.on_at(bus, which, name, 1);
    }

    fn on_at(&self, bus: &Bus, which: impl Into<Predicate>, name: &'static str, priority: i32) {
        let trace = self.clone();
        bus.on(which).priority(priority).run(move |_: &Event| trace.say(name)).now().unwrap();
    }
}

fn emit(bus: &Bus, event_type: &str) -> Report {
    bus.emit(Event::new(event_type)).unwrap()
}

#[test]
fn an_event_has_an_empty_source_and_payload_unless_they_are_given() {
    let event = Event::from(Event::new("a"));
    assert_eq!((event.source(), event.topic(), event.payload::<()>().unwrap()), ("", "a", ()));
}

#[test]
fn an_events_time_is_utc_and_told_with_microseconds() {
    let text = Event::new("a").payload(1).timestamp().to_string();
    assert!(text.ends_with('Z') && text.len() == "2026-01-01T00:00:00.000000Z".len(), "{text}");
}

#[test]
fn what_a_caller_does_to_its_map_later_is_not_seen() {
    let mut map = json!({"x": {"list": [1]}});
    let event = Event::new("a").payload(map.clone());
    map["x"]["list"][0] = json!(2);
    map["new"] = json!(true);
    assert_eq!(event.to_map().unwrap()["payload"], json!({"x": {"list": [1]}}));
}

#[test]
fn an_events_map_has_id_type_topic_source_payload_and_timestamp_in_that_order() {
    let map = Event::new("a").source("s").payload(json!({"k": 1})).to_map().unwrap();
    let keys: Vec<_> = map.keys().map(String::as_str).collect();
    assert_eq!(keys, ["id", "type", "topic", "source", "payload", "timestamp"]);
}

#[test]
fn predicates_find_three_five_two_and_one_of_the_notebooks_events() {
    let of = |event_type: &str, source: &str, payload| {
        Event::new(event_type).source(source).payload(payload)
    };
    let events = [
        of("step_start", "Pipeline.DataLoad", json!({"step_index": 0, "type": "input"})),
        of("step_start", "Pipeline.DataTransform", json!({"step_index": 1, "type": "processing"})),
        of("step_end", "Pipeline.DataLoad", json!({"step_index": 0, "duration": 1.5})),
        of("step_end", "Pipeline.DataTransform", json!({"step_index": 1, "duration": 3.2})),
        of("error", "OtherPipeline.Validation", json!({"error_code": 404})),
        of("warning", "Pipeline.DataLoad", json!({"message": "Large file size"})),
    ];
    let count = |wanted: Predicate| events.iter().filter(|e| wanted.matches(e)).count();
    assert_eq!(count(source_is("Pipeline.DataLoad")), 3);
    assert_eq!(count(source_starts_with("Pipeline.")), 5);
    assert_eq!(count(has_key("duration")), 2);
    assert_eq!(count(key_equals("type", "input")), 1);
}

#[test]
fn predicates_are_joined_by_and_or_and_not() {
    let event = Event::new("a").source("s").payload(json!({"n": 1}));
    let (yes, no) = (source_is("s"), source_is("t"));
    assert!((yes.clone() & has_key("n")).matches(&event));
    assert!(!(yes.clone() & no.clone()).matches(&event));
    assert!((no.clone() | yes.clone()).matches(&event));
    assert!((!no).matches(&event) && !(!yes).matches(&event));
}

#[test]
fn a_missing_key_never_equals_anything() {
    let event = Event::new("a").payload(json!({"there": null}));
    assert!(!key_equals("missing", json!(null)).matches(&event));
    assert!(key_equals("there", json!(null)).matches(&event));
}

#[test]
fn handlers_run_by_priority_then_typed_before_catch_all_then_age() {
    let (bus, trace) = (Bus::new(), Trace::default());
    trace.on(&bus, any(), "all1");
    trace.on(&bus, "t", "t1");
    trace.on_at(&bus, "t", "p5", 5);
    trace.on_at(&bus, any(), "p-1", -1);
    trace.on_at(&bus, "t", "p0", 0);
    trace.on(&bus, "t", "t2");
    trace.on(&bus, any(), "all2");
    emit(&bus, "t");
    assert_eq!(trace.take(), ["p-1", "p0", "t1", "t2", "all1", "all2", "p5"]);
}

#[test]
fn priority_0_runs_before_the_default_of_1() {
    let (bus, trace) = (Bus::new(), Trace::default());
    trace.on(&bus, "t", "default");
    trace.on_at(&bus, "t", "one", 1);
    trace.on_at(&bus, "t", "zero", 0);
    emit(&bus, "t");
    assert_eq!(trace.take(), ["zero", "default", "one"]);
}

#[test]
fn a_negative_priority_runs_before_0() {
    let (bus, trace) = (Bus::new(), Trace::default());
    trace.on_at(&bus, "t", "zero", 0);
    trace.on_at(&bus, "t", "minus", -7);
    emit(&bus, "t");
    assert_eq!(trace.take(), ["minus", "zero"]);
}

#[test]
fn subscriptions_are_numbered_from_1_and_no_number_comes_twice() {
    let bus = Bus::new();
    let open = || bus.on("t").run(|_: &Event| {}).now().unwrap();
    let (a, b) = (open(), open());
    a.cancel();
    assert_eq!([a.id(), b.id(), open().id()].map(|id| id.to_string()), ["1", "2", "3"]);
}

#[test]
fn unsubscribing_is_true_once_and_then_false() {
    let bus = Bus::new();
    let id = bus.on("t").run(|_: &Event| {}).now().unwrap().id();
    assert!(bus.unsubscribe(id));
    assert!(!bus.unsubscribe(id));
    assert_eq!(emit(&bus, "t").matched, 0);
}

#[test]
fn an_event_goes_to_its_types_subscribers_and_to_those_of_everything() {
    let (bus, trace) = (Bus::new(), Trace::default());
    trace.on(&bus, "t", "typed");
    trace.on(&bus, any(), "all");
    trace.on(&bus, "other", "other");
    assert_eq!(emit(&bus, "t").matched, 2);
    assert_eq!(trace.take(), ["typed", "all"]);
}

#[test]
fn a_predicate_that_is_false_keeps_its_handler_from_being_called() {
    let (bus, trace) = (Bus::new(), Trace::default());
    trace.on(&bus, event_type("t") & source_is("me"), "mine");
    assert_eq!(emit(&bus, "t").matched, 0);
    bus.emit(Event::new("t").source("me")).unwrap();
    assert_eq!(trace.take(), ["mine"]);
}

#[test]
fn a_handler_that_fails_stops_nobody_and_publish_returns_normally() {
    let (bus, trace) = (Bus::new(), Trace::default());
    trace.on(&bus, "t", "before");
    bus.on("t").run(|_: &Event| Err::<(), BoxError>("no".into())).now().unwrap();
    bus.on("t").run(|_: &Event| -> () { panic!("worse") }).now().unwrap();
    trace.on(&bus, "t", "after");
    let report = emit(&bus, "t");
    assert_eq!((report.matched, report.failures.len()), (4, 2));
    assert_eq!(trace.take(), ["before", "after"]);
}

#[test]
fn a_predicate_that_fails_stops_nobody_either() {
    let (bus, trace) = (Bus::new(), Trace::default());
    bus.on(|_: &Event| panic!("in the predicate")).run(|_: &Event| {}).now().unwrap();
    trace.on(&bus, event_type("*t"), "after");
    let report = emit(&bus, "t");
    assert_eq!(report.failures[0].error, "handler: the predicate panicked: in the predicate");
    assert_eq!(trace.take(), ["after"]);
}

#[test]
fn publishing_inside_a_handler_goes_depth_first() {
    let (bus, trace) = (Bus::new(), Trace::default());
    let outer = trace.clone();
    bus.on(any())
        .run(move |event: Event, bus: Bus| {
            outer.say(format!("h1({})", event.event_type()));
            if event.event_type() == "a" {
                bus.emit(Event::new("b"))?;
            }
            outer.say(format!("h1end({})", event.event_type()));
            railbus::done()
        })
        .now()
        .unwrap_or_else(|e| panic!("{e}"));
    let inner = trace.clone();
    bus.on(any()).run(move |e: &Event| inner.say(format!("h2({})", e.event_type()))).now().unwrap();
    emit(&bus, "a");
    assert_eq!(trace.take(), ["h1(a)", "h1(b)", "h1end(b)", "h2(b)", "h1end(a)", "h2(a)"]);
}

#[test]
fn one_that_subscribes_during_a_dispatch_is_called_from_the_next_on() {
    let (bus, trace) = (Bus::new(), Trace::default());
    let late = trace.clone();
    bus.on("t").run(move |_: Event, bus: Bus| late.on(&bus, "t", "late")).now().unwrap();
    assert_eq!(emit(&bus, "t").matched, 1);
    assert_eq!(trace.take(), [""; 0]);
    assert_eq!(emit(&bus, "t").matched, 2);
    assert_eq!(trace.take(), ["late"]);
}

#[test]
fn one_that_is_cancelled_during_a_dispatch_is_not_called_any_more() {
    let (bus, trace) = (Bus::new(), Trace::default());
    let victim = Arc::new(Mutex::new(None::<railbus::Subscription>));
    let target = Arc::clone(&victim);
    let cancel = move |_: &Event| {
        if let Some(subscription) = target.lock().unwrap().take() {
            subscription.cancel();
        }
    };
    bus.on("t").priority(0).run(cancel).now().unwrap();
    let last = trace.clone();
    let subscription = bus.on("t").run(move |_: &Event| last.say("victim")).now().unwrap();
    *victim.lock().unwrap() = Some(subscription);
    assert_eq!(emit(&bus, "t").matched, 1);
    assert_eq!(trace.take(), [""; 0]);
}

struct Picky(Trace);

impl SyncHandler for Picky {
    fn can_handle(&self, event: &Event) -> bool {
        event.source() == "mine"
    }

    fn handle(&self, event: &Event) -> Result<(), BoxError> {
        self.0.say(event.source());
        Ok(())
    }
}

#[test]
fn an_object_that_can_not_handle_an_event_is_not_called() {
    let (bus, trace) = (Bus::new(), Trace::default());
    bus.on(any()).run(Picky(trace.clone())).now().unwrap();
    assert_eq!(bus.emit(Event::new("t").source("yours")).unwrap().matched, 0);
    assert_eq!(bus.emit(Event::new("t").source("mine")).unwrap().matched, 1);
    assert_eq!(trace.take(), ["mine"]);
}

#[test]
fn an_events_text_for_debugging_names_its_type_source_and_payload() {
    let text = format!("{:?}", Event::new("a").source("b").payload(json!({"k": 1})));
    assert!(text.contains(r#"type: "a""#) && text.contains(r#"source: "b""#), "{text}");
    assert!(text.contains(r#"{"k":1}"#), "{text}");
}

#[test]
fn joining_no_predicates_at_all_begins_with_any_or_its_opposite() {
    let event = Event::from(Event::new("a"));
    let none = Vec::<Predicate>::new;
    assert!(none().into_iter().fold(any(), |a, b| a & b).matches(&event));
    assert!(!none().into_iter().fold(!any(), |a, b| a | b).matches(&event));
}

#[test]
fn an_event_without_a_type_is_refused_and_unknown_is_a_type_like_others() {
    let (bus, trace) = (Bus::new(), Trace::default());
    trace.on(&bus, any(), "all");
    trace.on(&bus, "unknown", "unknown");
    let refused = bus.emit(Event::new("")).unwrap_err();
    assert_eq!(refused.to_string(), "event: the type is empty (type: )");
    assert_eq!(trace.take(), [""; 0]);
    emit(&bus, "unknown");
    assert_eq!(trace.take(), ["unknown", "all"]);
}

#[test]
fn a_store_is_asked_for_one_name_at_a_time() {
    let store = store! { "a" => 1, "b" => 2 };
    assert!(["a", "b"].iter().all(|name| store.has(name)));
    assert!(!["a", "c"].iter().all(|name| store.has(name)));
    assert!(["c", "d"].iter().all(|name| !store.has(name)));
}

/// Adds what it takes under two names.
struct Add;

#[async_trait::async_trait]
impl Step for Add {
    fn signature(&self) -> Signature {
        Signature::new("add").needs::<i64>("a").needs::<i64>("b")
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        Ok(Flow::next(*input.get::<i64>("a")? + *input.get::<i64>("b")?))
    }
}

#[tokio::test]
async fn two_needs_of_a_step_may_be_one_value() {
    let twice = StepDef::of(Add).bind("a", "n").bind("b", "n");
    let pipeline = Pipeline::new("p").step(twice).build().unwrap();
    let report = pipeline.run(store! { "n" => 21i64 }).await;
    assert_eq!(*report.get::<i64>("add").unwrap(), 42);
}

#[step(output = "total")]
fn add(total: i64) -> i64 {
    total + 15
}

async fn repeated(again: Repeated) -> i64 {
    let pipeline = Pipeline::new("p").step(again).build().unwrap();
    *pipeline.run(store! { "total" => 0_i64 }).await.get::<i64>("total").unwrap()
}

#[tokio::test]
async fn three_repeats_are_15_from_a_cleared_store_and_45_from_what_was_left() {
    assert_eq!(repeated(repeat(add).times(3).fresh()).await, 15);
    assert_eq!(repeated(repeat(add).times(3)).await, 45);
}

#[tokio::test]
async fn repeating_until_there_is_enough_ends_at_30_after_two() {
    let enough = |input: &Input<'_>| Ok::<_, StepError>(*input.get::<i64>("total")? >= 30);
    assert_eq!(repeated(repeat(add).until(enough)).await, 30);
    let too_few = |input: &Input<'_>| Ok::<_, StepError>(*input.get::<i64>("total")? < 30);
    assert_eq!(repeated(repeat(add).as_long_as(too_few)).await, 30);
}

#[step(output = "mean")]
fn fit(data: &[f64]) -> f64 {
    data.iter().sum::<f64>() / data.len() as f64
}

#[tokio::test]
async fn a_mean_fitted_once_stays_2_and_fitted_at_each_run_is_4() {
    for (fit, second) in [(fit.once(), 2.0), (fit.into_step(), 4.0)] {
        let pipeline = Pipeline::new("p").step(fit).build().unwrap();
        for (data, mean) in [([1.0, 2.0, 3.0], 2.0), ([3.0, 4.0, 5.0], second)] {
            let report = pipeline.run(store! { "data" => data.to_vec() }).await;
            assert_eq!(*report.get::<f64>("mean").unwrap(), mean);
        }
    }
}

#[tokio::test]
async fn a_pipeline_in_a_pipeline_reads_and_leaves_the_values_of_the_run() {
    let inner = Pipeline::new("inner").step(add).build().unwrap();
    let outer = Pipeline::new("outer").step(inner).step(add.named("again")).build().unwrap();
    let report = outer.run(store! { "total" => 0_i64 }).await;
    assert_eq!(*report.get::<i64>("total").unwrap(), 30, "{report}");
}

#[tokio::test]
async fn a_step_on_condition_runs_only_where_that_holds() {
    let few = |input: &Input<'_>| Ok::<_, StepError>(*input.get::<i64>("total")? < 10);
    let pipeline = Pipeline::new("p").step(add.only_if(few)).build().unwrap();
    for (before, after) in [(0_i64, 15), (10, 10)] {
        let report = pipeline.run(store! { "total" => before }).await;
        assert_eq!(*report.get::<i64>("total").unwrap(), after);
    }
}
