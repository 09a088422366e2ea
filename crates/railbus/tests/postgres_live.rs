//! Events by NOTIFY on a real server: what arrives, where, and in which order.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, ErrorKind, Event, json, predicate::topic};
use railbus_testbed::Postgres;
use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start().unwrap())
}

/// Subscribes, and returns what arrives.
async fn listen(
    bus: &Bus,
    predicate: impl Into<railbus::predicate::Predicate>,
) -> UnboundedReceiver<Event> {
    let (tell, told) = unbounded_channel();
    bus.on(predicate).run(move |event: &Event| drop(tell.send(event.clone()))).await.unwrap();
    told
}

async fn next(told: &mut UnboundedReceiver<Event>) -> Event {
    timeout(Duration::from_secs(10), told.recv()).await.expect("nothing arrived").unwrap()
}

#[tokio::test]
async fn an_event_reaches_every_bus_that_is_open() {
    let database = server().database().unwrap();
    let url = database.url("postgres");
    let (one, other) = (Bus::open(&url).await.unwrap(), Bus::open(&url).await.unwrap());
    let mut heard = [listen(&one, "order.placed").await, listen(&other, "order.placed").await];
    let event = Event::new("order.placed")
        .topic("shop")
        .metadata("é", "ü")
        .payload(json!({"lines": [1, null]}));
    one.publish(&event).await.unwrap();
    for told in &mut heard {
        assert_eq!(next(told).await, event);
    }
    one.close().await.unwrap();
    other.close().await.unwrap();
}
