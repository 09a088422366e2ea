//! What the bus does around a handler: nested publishing, failures told, guards, refusals.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Retry, Type, any,
    delivery::Then,
    predicate::{Predicate, event_type, has_key, topic},
    testing::Recorder,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

type Notes = Arc<Mutex<Vec<String>>>;

fn noting(notes: &Notes, what: &str) -> impl Fn() + Clone + Send + Sync + 'static {
    let (notes, what) = (Arc::clone(notes), what.to_owned());
    move || notes.lock().unwrap().push(what.clone())
}

#[railbus::test]
async fn what_a_handler_publishes_is_through_before_the_next_handler_runs() {
    let (bus, notes) = (Bus::new(), Notes::default());
    let (before, after) = (noting(&notes, "a1 begins"), noting(&notes, "a1 ends"));
    let nested = async move |bus: Bus| {
        before();
        bus.publish(Event::new("b")).await.unwrap();
        after();
    };
    bus.on("a").run(nested).await.unwrap();
    let second = noting(&notes, "a2");
    bus.on("a").run(move |_: &Event| second()).await.unwrap();
    let b = noting(&notes, "b");
    let deeper = move |bus: Bus| {
        b();
        bus.emit(Event::new("c")).map(drop)
    };
    bus.on("b").run(deeper).await.unwrap();
    let c = noting(&notes, "c");
    bus.on("c").run(move |_: &Event| c()).await.unwrap();
    bus.publish(Event::new("a")).await.unwrap();
    assert_eq!(*notes.lock().unwrap(), ["a1 begins", "b", "c", "a1 ends", "a2"]);
}

#[railbus::test]
async fn a_failure_is_told_on_the_bus_once_and_failures_of_telling_make_no_more() {
    let bus = Bus::new();
    let received = Recorder::new();
    bus.on("a").named("bad").run(|_: &Event| Err::<(), _>("no")).await.unwrap();
    bus.on(Type::HANDLER_ERROR).run(received.clone()).await.unwrap();
    let worse = async |_: Event| -> () { panic!("worse") };
    bus.on(Type::HANDLER_ERROR).run(worse).await.unwrap();
    bus.on(any()).run(|_: &Event| Err::<(), _>("all is bad")).await.unwrap();
    let event = Event::new("a").id("1").correlation("c").payload(());
    let report = bus.publish(&event).await.unwrap();
    assert_eq!((report.matched, report.failures.len()), (2, 2));
    let told = received.events();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0].get("event_id"), Some("1"));
    assert_eq!(told[0].get("type"), Some("a"));
    assert_eq!(told[0].get("subscription"), Some("bad"));
    assert_eq!(told[0].get("error"), Some("no"));
    assert_eq!((told[0].correlation_id(), told[0].causation_id()), ("c", Some("1")));
    assert_eq!((bus.counters().published.get(), bus.counters().failed.get()), (1, 2));
}

#[test]
fn typed_is_what_pins_a_type_or_a_topic_on_every_way_to_a_match() {
    let closure = || Predicate::from(|_: &Event| true);
    for (predicate, typed) in [
        ("a".into(), true),
        (event_type("a"), true),
        (topic("a"), true),
        (Predicate::from("a") & closure(), true),
        (closure() & topic("a"), true),
        (Predicate::from("a") | topic("b"), true),
        (Predicate::from("a") | any(), false),
        (!Predicate::from("a"), false),
        ("a*".into(), false),
        (topic("[ab]"), false),
        (has_key("x"), false),
        (closure(), false),
    ] {
        assert_eq!(predicate.is_typed(), typed, "{predicate}");
    }
}

#[test]
fn emit_is_refused_before_anything_ran_by_whatever_can_not_run_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bus = Bus::new();
    let received = Recorder::new();
    bus.on("*").priority(0).run(received.clone()).now().unwrap();
    let refused = |event: Event, why: &str| {
        let error = bus.emit(&event).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let text = error.to_string();
        assert!(text.contains(why) && text.contains(event.id()), "{text}");
        assert!(error.advice().unwrap().contains("publish(..)"), "{error}");
    };
    bus.on("async").named("later").run(async |_: Event| {}).now().unwrap();
    refused(Event::new("async").into(), "later is async");
    refused(Event::new("a").delay(Duration::from_secs(1)).into(), "held back");
    let grouped = async { bus.on("grouped").group("g").run(|_: &Event| {}).await };
    runtime.block_on(grouped).unwrap();
    refused(Event::new("grouped").into(), "has a group");
    assert!(received.is_empty());
    assert_eq!(bus.counters().published.get(), 0);
    assert_eq!(bus.emit(Event::new("a")).unwrap().matched, 1);
    runtime.block_on(bus.close()).unwrap();
}

#[railbus::test]
async fn a_bus_knows_what_nobody_wants() {
    let bus = Bus::new();
    assert!(!bus.wants("a"));
    let guard = bus.on("a").run(|_: &Event| {}).await.unwrap().guard();
    assert!(bus.wants("a") && !bus.wants("b"));
    bus.on("b").group("g").run(|_: &Event| {}).await.unwrap();
    bus.on(topic("shop:*") & has_key("x")).run(|_: &Event| {}).await.unwrap();
    assert!(bus.wants("b") && bus.wants("shop:1") && !bus.wants("c"));
    drop(guard);
    assert!(!bus.wants("a"));
    bus.close().await.unwrap();
}

#[railbus::test]
async fn a_guard_cancels_on_drop_and_unsubscribing_tells_whether_there_was_one() {
    let bus = Bus::new();
    let received = Recorder::new();
    let subscription = bus.on("a").run(received.clone()).await.unwrap();
    drop(subscription.clone());
    assert_eq!(bus.publish(Event::new("a")).await.unwrap().matched, 1);
    assert!(bus.unsubscribe(subscription.id()));
    assert!(!bus.unsubscribe(subscription.id()));
    let guard = bus.on("a").run(received.clone()).await.unwrap().guard();
    assert!(guard.id() > subscription.id());
    assert_eq!(bus.publish(Event::new("a")).await.unwrap().matched, 1);
    drop(guard);
    assert_eq!(bus.publish(Event::new("a")).await.unwrap().matched, 0);
    assert_eq!(received.len(), 2);
}

#[railbus::test]
async fn a_handler_that_cancels_the_next_one_spares_it_in_the_same_dispatch() {
    let (bus, received) = (Bus::new(), Recorder::new());
    let next = bus.on("a").priority(2).run(received.clone()).await.unwrap();
    bus.on("a").priority(1).run(move |_: &Event| next.cancel()).await.unwrap();
    assert_eq!(bus.publish(Event::new("a")).await.unwrap().matched, 1);
    assert!(received.is_empty());
}

#[railbus::test]
async fn waiting_until_all_is_through_tells_that_a_group_stopped() {
    let bus = Bus::new();
    let on = bus.on("a").group("g").retry(Retry::attempts(1)).then(Then::Stop);
    on.run(|_: &Event| Err::<(), _>("the disk is full")).await.unwrap();
    bus.publish(Event::new("a").payload(0)).await.unwrap();
    let error = bus.idle().await.unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

#[test]
fn what_can_never_match_is_refused_and_what_may_is_not() {
    let bus = Bus::new();
    for never in [
        event_type("a") & event_type("b"),
        topic("a") & has_key("x") & topic("b"),
        event_type("a.*") & event_type("b"),
        event_type("a") & event_type("b.*"),
        (event_type("a") | event_type("b")) & event_type("c"),
        "".into(),
        topic("") & any(),
    ] {
        let said = never.to_string();
        let error = bus.on(never).run(|_: &Event| {}).now().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(&format!("`{said}` can never match")), "{error}");
    }
    for may in [
        event_type("a") & topic("b"),
        event_type("a.*") & event_type("a.b"),
        event_type("a*") & event_type("*b"),
        event_type("a") & !event_type("b"),
        event_type("a") & (event_type("b") | topic("b")),
        "*".into(),
    ] {
        bus.on(may).run(|_: &Event| {}).now().unwrap();
    }
}

#[railbus::test]
async fn a_group_settles_what_its_backend_brings_beyond_a_predicate_that_says_much() {
    let mut much = any();
    for i in 0..80 {
        much = much & (event_type(&format!("*{i}*")) | topic(&format!("t{i}")));
    }
    let clauses = much.interest().0.len();
    assert!(clauses <= 64, "{clauses} clauses");
    let bus = Bus::new();
    let received = Recorder::new();
    bus.on(much).group("much").run(received.clone()).await.unwrap();
    bus.on(event_type("a*") & event_type("*z")).group("two").run(received.clone()).await.unwrap();
    let all: String = (0..80).map(|i| i.to_string()).collect();
    for types in ["t0", "1", "ab", "az", &all] {
        bus.publish(Event::new(types).payload(0)).await.unwrap();
    }
    bus.idle().await.unwrap();
    assert_eq!(received.len(), 2);
}

#[railbus::test]
async fn what_would_have_no_effect_is_refused() {
    let bus = Bus::new();
    let by_hand = || async |_: Event| ();
    let refused = [
        bus.on("a").limit(1).run(|_: &Event| ()).await,
        bus.on("a").lease(Duration::from_secs(1)).run(|_: &Event| ()).await,
        bus.on("a").group("g").manual().run(by_hand()).await,
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.advice().is_some(), "{error}");
    }
}
