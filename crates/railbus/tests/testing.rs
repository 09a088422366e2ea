//! The test kit: a bus that encodes, and a recorder.
#![allow(clippy::unwrap_used)]

use railbus::{Event, any, json, testing, testing::Recorder};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

#[railbus::test]
async fn the_bus_encodes_what_is_published() -> railbus::Result<()> {
    struct Told(Arc<AtomicBool>);
    impl serde::Serialize for Told {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            self.0.store(true, Relaxed);
            to.serialize_u8(1)
        }
    }
    let (bus, encoded) = (testing::bus().await?, Arc::new(AtomicBool::new(false)));
    bus.on("a").run(|_: &Event| ()).await?;
    bus.publish(Event::new("a").payload(Told(encoded.clone()))).await?;
    assert!(encoded.load(Relaxed));
    Ok(())
}

#[railbus::test]
async fn a_recorder_remembers_in_order_until_it_is_cleared() -> railbus::Result<()> {
    let (bus, seen) = (testing::bus().await?, Recorder::new());
    assert!(seen.is_empty());
    bus.on(any()).run(seen.clone()).await?;
    for name in ["a", "b", "a"] {
        bus.publish(Event::new(name).payload(json!({ "in": name }))).await?;
    }
    assert_eq!(seen.types(), ["a", "b", "a"]);
    let names: Vec<_> = seen.events().iter().map(|e| e.get::<String>("in").unwrap()).collect();
    assert_eq!(names, ["a", "b", "a"]);
    assert_eq!((seen.len(), format!("{seen:?}")), (3, r#"Recorder(["a", "b", "a"])"#.into()));
    seen.clear();
    assert!(seen.is_empty());
    bus.emit(Event::new("c"))?;
    assert_eq!(seen.types(), ["c"]);
    Ok(())
}

#[railbus::test]
async fn one_recorder_hears_several_subscriptions() -> railbus::Result<()> {
    let (bus, seen) = (testing::bus().await?, Recorder::new());
    bus.on("a").run(seen.clone()).await?;
    bus.on(any()).run(seen.clone()).await?;
    bus.publish(Event::new("a")).await?;
    assert_eq!(seen.types(), ["a", "a"]);
    Ok(())
}

#[railbus::test]
async fn waiting_ends_when_enough_has_come() -> railbus::Result<()> {
    let (bus, seen) = (testing::bus().await?, Recorder::new());
    bus.on("a").run(seen.clone()).await?;
    let (publisher, waits) = (bus.clone(), seen.wait_for(2));
    let publishes = tokio::spawn(async move {
        for n in 0..3 {
            publisher.publish(Event::new("a").payload(n)).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    assert!(waits.await.len() >= 2);
    publishes.await.unwrap();
    // What has come is enough as well.
    assert_eq!(seen.wait_for(1).await.len(), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn waiting_in_vain_says_what_came_and_who_waited() {
    let (bus, seen) = (testing::bus().await.unwrap(), Recorder::new());
    bus.on(any()).run(seen.clone()).await.unwrap();
    bus.publish(Event::new("order.placed")).await.unwrap();
    let line = line!() + 1;
    let waits = seen.wait_for(2);
    let panic = tokio::spawn(waits).await.unwrap_err().into_panic();
    let told = panic.downcast_ref::<String>().unwrap();
    let place = format!("{}:{line}:", file!());
    assert!(told.starts_with(&place), "{told}");
    assert!(told.ends_with(r#": 1 of 2 events came in 10 s: ["order.placed"]"#), "{told}");
}
