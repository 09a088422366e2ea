//! Closing a bus whose handlers hang.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{bus::Bus, event::Event};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_and_a_broadcast_that_hang_share_one_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("events.db").display());
    let bus = Bus::open(&url).await.unwrap();
    let (begins, mut begun) = mpsc::unbounded_channel();
    let hang = async move |_: Event| {
        begins.send(()).unwrap();
        std::future::pending::<()>().await;
    };
    bus.on("a").group("g").run(hang.clone()).await.unwrap();
    bus.on("a").run(hang).await.unwrap();
    bus.publish(Event::new("a").payload(0)).await.unwrap();
    for _ in 0..2 {
        begun.recv().await.unwrap();
    }
    let (deadline, began) = (Duration::from_secs(2), Instant::now());
    bus.close_within(deadline).await.unwrap();
    let took = began.elapsed();
    assert!(took < deadline * 2 - Duration::from_millis(200), "{took:?}");
}

#[tokio::test]
async fn a_closed_bus_leaves_no_task_of_its_groups_behind_while_it_is_held() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (bus, before) = (Bus::new(), alive());
    let open = bus.on("a").group("g").run(|_: &Event| ()).await.unwrap();
    bus.on("b").group("h").run(|_: &Event| ()).await.unwrap();
    open.cancel();
    bus.publish(Event::new("b").payload(0)).await.unwrap();
    bus.close().await.unwrap();
    let began = Instant::now();
    while alive() > before {
        assert!(began.elapsed() < Duration::from_secs(60), "{} tasks are left", alive() - before);
        tokio::task::yield_now().await;
    }
    drop(bus);
}
