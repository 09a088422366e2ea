//! What the dataknobs document promises of its servers and its code breaks there, on every backend:
//! `docs/differences.md` lists each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "everywhere/faulty.rs"]
mod faulty;
#[path = "everywhere/places.rs"]
mod places;
#[cfg(any(feature = "redis", feature = "postgres"))]
#[path = "seed_servers/lines.rs"]
mod lines;

use faulty::Faulty;
use places::Place;
use railbus::{Bus, ErrorKind, Event, Type, any, json, testing::Recorder, topic};
use std::time::Duration;

async fn open(place: &Place) -> Bus {
    Bus::open(&place.url).await.unwrap()
}

async fn record(bus: &Bus, pattern: &str) -> Recorder {
    let seen = Recorder::new();
    bus.on(topic(pattern)).run(seen.clone()).await.unwrap();
    seen
}

fn event(topic: &str, n: u32) -> Event {
    Event::new(Type::UPDATED).topic(topic).payload(n)
}

fn numbers(seen: &Recorder) -> Vec<u32> {
    seen.events().iter().map(|event| event.payload().unwrap()).collect()
}

/// Returns two buses in one place; what one publishes the other hears.
async fn two(place: &Place) -> (Bus, Bus) {
    (open(place).await, open(place).await)
}

/// Waits until a bus has handled all that another one published: its own broadcasts come behind.
async fn until_heard(publisher: &Bus, listener: &Bus) {
    let end = record(listener, "the:end").await;
    // Whose line broke hears when it is back.
    for _ in 0..30 {
        publisher.publish(event("the:end", 0)).await.unwrap();
        if tokio::time::timeout(Duration::from_secs(1), end.wait_for(1)).await.is_ok() {
            return;
        }
    }
    panic!("{:?} heard nothing", listener.capability().name);
}

#[railbus::test]
async fn an_event_goes_to_another_bus_and_back_with_every_field() {
    for place in places::shared() {
        let (one, other) = two(&place).await;
        let seen = record(&other, "shop").await;
        let event = Event::new(Type::CREATED)
            .topic("shop")
            .source("till")
            .correlation("c-1")
            .metadata("tenant", "nørth")
            .payload(json!({ "lines": [1, 2.5, null, "x"], "n": i64::MAX }));
        one.publish(&event).await.unwrap();
        assert_eq!(seen.wait_for(1).await, [event], "{}", place.url);
        one.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[railbus::test]
async fn one_that_unsubscribes_hears_nothing_more_and_the_others_do() {
    for place in places::shared() {
        let (one, other) = two(&place).await;
        let (gone, stays) = (Recorder::new(), record(&other, "t").await);
        let subscription = other.on(topic("t")).run(gone.clone()).await.unwrap();
        one.publish(event("t", 1)).await.unwrap();
        gone.wait_for(1).await;
        subscription.cancel();
        one.publish(event("t", 2)).await.unwrap();
        stays.wait_for(2).await;
        assert_eq!((numbers(&gone), numbers(&stays)), (vec![1], vec![1, 2]), "{}", place.url);
        one.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[railbus::test]
async fn two_subscribers_and_two_buses_get_the_event_once_each() {
    for place in places::shared() {
        let (one, other) = two(&place).await;
        let all = [
            record(&one, "t").await,
            record(&one, "t").await,
            record(&other, "t").await,
            record(&other, "t").await,
        ];
        one.publish(event("t", 1)).await.unwrap();
        for seen in &all {
            seen.wait_for(1).await;
        }
        until_heard(&one, &other).await;
        one.idle().await.unwrap();
        assert!(all.iter().all(|seen| seen.len() == 1), "{}", place.url);
        one.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[railbus::test]
async fn after_close_publish_and_subscribe_say_that_the_bus_is_closed() {
    for place in places::all() {
        let bus = open(&place).await;
        bus.close().await.unwrap();
        let refused = bus.publish(event("t", 1)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed, "{} {refused}", place.url);
        let refused = bus.on(any()).run(|_: &Event| {}).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed, "{} {refused}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_pattern_hears_topics_that_nobody_subscribes_to_exactly() {
    for place in places::shared() {
        let (one, other) = two(&place).await;
        let (registry, all) = (record(&other, "registry:*").await, record(&other, "*").await);
        let (not_a, bots) = (record(&other, "[!a]*").await, record(&other, "*:bots").await);
        for (n, name) in
            ["registry:bots", "registry:bots:config", "orders", "audit"].iter().enumerate()
        {
            one.publish(event(name, u32::try_from(n).unwrap())).await.unwrap();
        }
        all.wait_for(4).await;
        other.idle().await.unwrap();
        assert_eq!(numbers(&registry), [0, 1], "{}", place.url);
        assert_eq!(numbers(&all), [0, 1, 2, 3]);
        assert_eq!((numbers(&not_a), numbers(&bots)), (vec![0, 1, 2], vec![0]), "{}", place.url);
        one.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[railbus::test]
async fn an_exact_subscriber_beside_patterns_is_called_once_an_event() {
    for place in places::all() {
        let bus = open(&place).await;
        let exact = record(&bus, "test:one").await;
        let patterns = [record(&bus, "test:*").await, record(&bus, "*:one").await];
        bus.publish(event("test:one", 1)).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!(exact.len(), 1, "{}", place.url);
        assert!(patterns.iter().all(|seen| seen.len() == 1), "{}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn topics_that_look_alike_are_apart_and_cancelling_one_leaves_the_others() {
    let topics = [
        "a:b",
        "a.b",
        "a-b",
        "a_b",
        "A:b",
        "a:b ",
        "événement",
        "foo'; DROP TABLE users --",
        "*",
        "!@#",
    ];
    for place in places::shared() {
        let (one, other) = two(&place).await;
        let mut seen = Vec::new();
        for name in topics {
            let keep = Recorder::new();
            let only = move |event: &Event| event.topic() == name;
            let subscription = other.on(only).run(keep.clone()).await.unwrap();
            seen.push((subscription, keep));
        }
        for (n, name) in topics.iter().enumerate() {
            one.publish(event(name, u32::try_from(n).unwrap())).await.unwrap();
        }
        until_heard(&one, &other).await;
        for (n, (_, seen)) in seen.iter().enumerate() {
            assert_eq!(numbers(seen), [u32::try_from(n).unwrap()], "{} {}", place.url, topics[n]);
        }
        let (first, rest) = seen.split_first().unwrap();
        first.0.cancel();
        for name in topics {
            one.publish(event(name, 99)).await.unwrap();
        }
        for (_, seen) in rest {
            seen.wait_for(2).await;
        }
        assert_eq!(first.1.len(), 1);
        one.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_topic_of_two_hundred_characters_is_one_like_others() {
    for place in places::shared() {
        let (one, other) = two(&place).await;
        let (long, longer) = ("x".repeat(200), "x".repeat(201));
        let (seen, pattern) = (record(&other, &long).await, record(&other, "xx*").await);
        one.publish(event(&long, 1)).await.unwrap();
        one.publish(event(&longer, 2)).await.unwrap();
        pattern.wait_for(2).await;
        assert_eq!((numbers(&seen), numbers(&pattern)), (vec![1], vec![1, 2]), "{}", place.url);
        one.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[railbus::test]
async fn twenty_who_publish_at_once_are_all_heard() {
    for place in places::shared() {
        let (one, other) = two(&place).await;
        let seen = record(&other, "t").await;
        let publish = |n| {
            let one = one.clone();
            tokio::spawn(async move { one.publish(event("t", n)).await })
        };
        for publishing in (0..20).map(publish).collect::<Vec<_>>() {
            publishing.await.unwrap().unwrap();
        }
        seen.wait_for(20).await;
        let mut all = numbers(&seen);
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>(), "{}", place.url);
        one.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_payload_over_what_a_notification_holds_arrives_whatever_its_characters() {
    for place in places::shared() {
        let (one, other) = two(&place).await;
        let seen = record(&other, "t").await;
        let texts = ["é".repeat(7_000), "x".repeat(9_000), "𝄞".repeat(50_000)];
        for text in &texts {
            one.publish(Event::new("a").topic("t").payload(text.clone())).await.unwrap();
        }
        let events = seen.wait_for(3).await;
        let got: Vec<String> = events.iter().map(|e| e.payload().unwrap()).collect();
        assert!(got == texts, "{}", place.url);
        one.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[railbus::test]
async fn events_of_a_topic_are_handled_in_the_order_they_were_published() {
    for place in places::shared() {
        let bus = open(&place).await;
        let seen = Recorder::new();
        let keep = seen.clone();
        let slowly = async move |event: Event| {
            // The earlier ones take longer, so that what runs side by side comes out reversed.
            for _ in 0..100 / (1 + event.payload::<u32>()?) {
                tokio::task::yield_now().await;
            }
            railbus::SyncHandler::handle(&keep, &event)
        };
        bus.on(topic("t")).run(slowly).await.unwrap();
        for n in 0..5 {
            bus.publish(event("t", n)).await.unwrap();
        }
        bus.idle().await.unwrap();
        assert_eq!(numbers(&seen), [0, 1, 2, 3, 4], "{}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn payloads_that_are_no_map_arrive_and_stop_nothing() {
    for place in places::all() {
        let bus = open(&place).await;
        let seen = record(&bus, "t").await;
        let payloads = [json!([1]), json!(null), json!("$1"), json!(7), json!({ "a": 1 })];
        for payload in payloads.clone() {
            bus.publish(Event::new("a").topic("t").payload(payload)).await.unwrap();
        }
        bus.idle().await.unwrap();
        let got: Vec<railbus::Value> = seen.events().iter().map(|e| e.payload().unwrap()).collect();
        assert_eq!(got, payloads, "{}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_bus_that_only_published_may_subscribe_whenever_it_likes() {
    for place in places::shared() {
        let bus = open(&place).await;
        for n in 0..10 {
            bus.publish(event("t", n)).await.unwrap();
            tokio::task::yield_now().await;
        }
        bus.ping().await.unwrap();
        let seen = record(&bus, "t").await;
        bus.publish(event("t", 10)).await.unwrap();
        seen.wait_for(1).await;
        assert_eq!(numbers(&seen), [10], "{}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_subscription_that_can_not_open_leaves_nothing_behind() {
    let (faulty, faults) = Faulty::new();
    let bus = Bus::over(faulty);
    faults.subscribes.store(1, std::sync::atomic::Ordering::SeqCst);
    let seen = Recorder::new();
    let refused = bus.on(topic("t")).run(seen.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(bus.publish(event("t", 1)).await.unwrap().matched, 0);
    bus.on(topic("t")).run(seen.clone()).await.unwrap();
    bus.publish(event("t", 2)).await.unwrap();
    seen.wait_for(1).await;
    assert_eq!(numbers(&seen), [2]);
    bus.close().await.unwrap();
}
