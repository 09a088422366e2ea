//! What does not go together.

use railbus::{Batch, Bus, Consumer, ErrorKind, Event, bus::Opening, delivery::Lease};
use std::time::Duration;

async fn refused(opening: Opening) -> String {
    let error = opening.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    format!("{error}; {}", error.advice().unwrap())
}

#[railbus::test]
async fn what_does_not_go_together_is_told_when_it_opens() {
    let bus = Bus::open("memory:").await.unwrap();
    let on = || bus.on("a").group("g");
    let takes = async |_: Batch<u32>| {};
    let told = refused(on().run(takes)).await;
    assert!(told.contains("add .batch(max, linger)"), "{told}");
    let told = refused(on().batch(2, Duration::ZERO).run(async |_: Event| {})).await;
    assert!(told.contains("argument of type Batch<T>"), "{told}");
    let told = refused(on().batch(0, Duration::ZERO).run(takes)).await;
    assert!(told.contains("at least 1"), "{told}");
    let told = refused(on().limit(9).batch(10, Duration::ZERO).run(takes)).await;
    assert!(told.contains("never fills: the limit is 9"), "{told}");
    let both = async |_: Batch<u32>, lease: Lease| lease.ack();
    let told = refused(on().manual().batch(2, Duration::ZERO).run(both)).await;
    assert!(told.contains("an argument of one event"), "{told}");
    let both = async |_: Batch<u32>, _: Event| {};
    let told = refused(on().batch(2, Duration::ZERO).run(both)).await;
    assert!(told.contains("each item has its event"), "{told}");
    on().limit(10).batch(10, Duration::ZERO).run(takes).await.unwrap();
}

#[railbus::test]
async fn a_batch_that_the_smallest_limit_of_its_group_never_fills_is_refused() {
    let minute = Duration::from_secs(60);
    let takes = async |_: Batch<u32>| {};
    for batch_first in [true, false] {
        let bus = Bus::open("memory:").await.unwrap();
        let few = || bus.on("b").group("g").limit(9).run(async |_: Event| {});
        let batch = || bus.on("a").group("g").batch(10, minute).run(takes);
        let (first, second) = if batch_first { (batch(), few()) } else { (few(), batch()) };
        let first = first.await.unwrap();
        let told = refused(second).await;
        assert!(told.contains("never fills: the group's limit is 9"), "{told}");
        // Who was refused is in nobody's way, nor is who has left.
        first.cancel();
        bus.on("c").group("g").run(async |_: Event| {}).await.unwrap();
        bus.on("d").group("g").limit(10).run(async |_: Event| {}).await.unwrap();
    }
    let consumer = Consumer::open("memory:?group=g&max_workers=9").await.unwrap();
    consumer.on("a").limit(20).batch(10, minute).run(takes).await.unwrap();
    let told = refused(consumer.on("b").run(async |_: Event| {})).await;
    assert!(told.contains("never fills: the group's limit is 9"), "{told}");
}

#[test]
fn without_a_runtime_there_is_no_batch() {
    let bus = Bus::new();
    let error = bus.on("a").batch(2, Duration::ZERO).run(|_: Batch<u32>| {}).now().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
