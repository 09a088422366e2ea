//! Topics, types, ids, patterns and names that are too long, empty or odd.

use crate::stage::{Stage, captured};
use railbus::{
    Bus, Error, ErrorKind, Event,
    clock::Timestamp,
    predicate::{event_type, topic},
    testing::Recorder,
    topic::Pattern,
};
use std::{sync::Arc, time::Duration};

/// Patterns with brackets that don't match up, each with a name it matches.
const ODD: [(&str, &str); 12] = [
    ("[", "["),
    ("a[", "a["),
    ("[a", "[a"),
    ("a]", "a]"),
    ("[]", "[]"),
    ("[!", "[!"),
    ("[!]", "[!]"),
    ("[]a]", "]"),
    ("[[a]", "["),
    ("[a-", "[a-"),
    ("*[", "xyz["),
    ("[[]*]", "[x]"),
];

fn refused(error: &Error, what: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{error}");
    let text = error.to_string();
    assert!(text.contains(what), "{text}");
    assert!(text.len() < 300, "{text}");
}

#[railbus::test]
async fn names_of_4_kib_are_refused_with_their_length_and_the_limit() {
    let long = "ä".repeat(2048);
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let all = stage.on(topic("*")).run(move |_: &Event| drop(held.clone())).await.unwrap();
        for (event, what) in [
            (Event::new(&long).payload(()), "the type has 4096 bytes; at most 1024"),
            (Event::new("a").topic(&long).payload(()), "the topic has 4096 bytes; at most 1024"),
            (Event::new("a").id(&long).payload(()), "the id must have 1 to 256 bytes"),
            (Event::new("a").topic("x\0y").payload(()), "the topic has a NUL character"),
            (Event::new("").payload(()), "the type is empty"),
        ] {
            refused(&stage.bus.publish(&event).await.unwrap_err(), what);
            let batch = [Event::new("b").payload(()).into(), event.clone().into()];
            let results = stage.bus.publish_all(&batch).await;
            assert!(results[0].is_ok());
            refused(results[1].as_ref().unwrap_err(), what);
            if stage.is_inside() {
                refused(&stage.bus.emit(&event).unwrap_err(), what);
            }
        }
        stage.bus.idle().await.unwrap();
        assert_eq!(stage.bus.counters().succeeded.get(), 5, "{stage}");
        drop(all);
        stage.end(watched).await;
    }
}

#[railbus::test]
async fn a_pattern_may_be_anything_and_means_the_same_everywhere() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let mut received = Vec::new();
        let long = "[".repeat(4096);
        let patterns = ODD.iter().copied().chain([(&*long, "x"), ("*a*a*a*a*a*a*a*a*a*b", "x")]);
        for (pattern, _) in patterns {
            let (topics, types) = (Recorder::new(), Recorder::new());
            let of = |p: &str| Some(p.to_owned());
            stage.on(topic(pattern)).run(topics.clone()).await.unwrap();
            stage.on(event_type(pattern)).named(pattern).run(types.clone()).await.unwrap();
            received.push((of(pattern), topics, types));
        }
        let guard = stage.on("*").run(move |_: &Event| drop(held.clone())).await.unwrap();
        let names: Vec<_> = ODD.iter().map(|(_, name)| (*name).to_owned()).collect();
        let names: Vec<_> = names.into_iter().chain(["a".repeat(1024)]).collect();
        for name in &names {
            stage.bus.publish(Event::new(name).payload(())).await.unwrap();
        }
        stage.bus.idle().await.unwrap();
        for (pattern, topics, types) in &received {
            let pattern = Pattern::new(pattern.clone().unwrap());
            let expected = names.iter().filter(|name| pattern.matches(name)).count();
            assert_eq!((topics.len(), types.len()), (expected, expected), "{stage}: {pattern}");
        }
        drop((received, guard));
        stage.end(watched).await;
    }
    for (pattern, name) in ODD {
        assert!(Pattern::new(pattern).matches(name), "{pattern} does not match {name}");
    }
}

#[railbus::test]
async fn a_groups_name_is_short_and_a_bare_topic_is_no_type() {
    for stage in Stage::all().await {
        let long = "g".repeat(4096);
        for (group, fits) in
            [("", false), (&long[..257], false), (&*long, false), (&long[..256], true)]
        {
            let opened = stage.bus.on("a").group(group).run(|_: &Event| {}).await;
            assert_eq!(opened.is_ok(), fits, "{stage}: {} bytes", group.len());
            let Err(error) = opened else { continue };
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains("1 to 256 bytes"), "{error}");
        }
        let error = stage.on("registry:bots").run(|_: &Event| {}).await.unwrap_err();
        assert!(error.advice().unwrap().contains("topic(\"registry:bots\")"), "{error}");
        assert!(stage.bus.on("a").limit(0).run(|_: &Event| {}).await.is_err());
        stage.bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_clock_that_is_ages_off_holds_nothing_back_and_breaks_nothing() {
    let ages = [i64::MIN, -62_135_596_800_000_000 * 5, -1, 0, 4_102_444_800_000_000, i64::MAX];
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let received = Recorder::new();
        stage.one_by_one("a").run(received.clone()).await.unwrap();
        let guard = stage.on("a").run(move |_: &Event| drop(held.clone())).await.unwrap();
        let mut sent = Vec::new();
        for micros in ages {
            let at = Timestamp::from_micros(micros).after(Duration::from_micros(1));
            let event = Event::new("a").timestamp(at).payload(micros);
            stage.bus.publish(&event).await.unwrap();
            sent.push(event);
        }
        stage.bus.idle().await.unwrap();
        assert_eq!(received.events(), sent, "{stage}");
        drop(guard);
        stage.end(watched).await;
    }
}

#[railbus::test]
async fn the_longest_durations_are_no_overflow() {
    let ever = Duration::MAX;
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let retry = railbus::Retry::attempts(2).backoff_factor(ever).max_backoff(ever);
        let failing =
            move |_: &Event| Err::<(), _>(format!("held by {}", Arc::strong_count(&held)));
        let opened = stage.untried("a").retry(retry).lease(ever).run(failing).await;
        match opened.map(drop) {
            Ok(()) => drop(stage.bus.publish(Event::new("a").payload(())).await.unwrap()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
        }
        let delayed = stage.bus.publish(Event::new("a").delay(ever)).await;
        if let Err(error) = delayed {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{stage}: {error}");
        }
        stage.end_within(Duration::from_millis(50), watched).await;
    }
}

#[railbus::test]
async fn a_bus_is_not_kept_by_a_subscription_that_was_refused() {
    let bus = Bus::open("memory:").await.unwrap();
    let (held, watched) = captured();
    let opened = bus.on("x:y").run(move |_: &Event| drop(held.clone())).await;
    assert!(opened.is_err());
    assert_eq!(watched.strong_count(), 0);
}
