//! Events at regular intervals.
#![cfg(feature = "app")]
#![allow(clippy::unwrap_used)]

use railbus::{input::EventInput, inputs::interval::Interval};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, advance, timeout};

#[tokio::test(start_paused = true)]
async fn ticks_come_after_each_interval_and_missed_ones_as_one() {
    let every = Duration::from_secs(10);
    let mut input = Interval::new("beat", every, "tick").unwrap();
    input = input.topic("clock:beat").unwrap().payload(json!({"n": 1}));
    assert!(input.is_endless());
    input.resume(None).await.unwrap();
    let start = Instant::now();
    let first = input.next().await.unwrap();
    assert_eq!(start.elapsed(), every);
    let event = &first[0].event;
    assert_eq!((event.event_type(), event.topic()), ("tick", "clock:beat"));
    assert_eq!(event.get::<u32>("n"), Some(1));
    assert_eq!(event.source(), "interval:beat");
    assert!(first.len() == 1 && first[0].position.is_none());
    // A dropped wait loses no tick.
    assert!(timeout(Duration::from_secs(5), input.next()).await.is_err());
    let second = input.next().await.unwrap();
    assert_eq!(start.elapsed(), every * 2);
    assert_ne!(second[0].event.id(), event.id());
    advance(every * 3 + every / 2).await;
    input.next().await.unwrap();
    assert_eq!(start.elapsed(), every * 5 + every / 2);
    input.next().await.unwrap();
    assert_eq!(start.elapsed(), every * 6);
}

#[tokio::test]
async fn limits_are_checked() {
    let second = Duration::from_secs(1);
    assert!(Interval::new("a", Duration::ZERO, "tick").is_err());
    assert!(Interval::new("a", second, "").is_err());
    assert!(Interval::new("a", second, "tick").unwrap().topic("").is_err());
    let mut longest = Interval::new("a", Duration::MAX, "tick").unwrap();
    longest.resume(None).await.unwrap();
}
