//! Very many senders at once: 300 connections, 5,000 with `RAILBUS_STRESS`.
#![cfg(feature = "webhook")]
#![allow(clippy::unwrap_used)]

mod hooked;

use hooked::{Client, request};
use railbus::{Event, webhook::WebhookConsumer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{
    alloc::System,
    collections::HashSet,
    env,
    sync::{Arc, Mutex},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn connections() -> usize {
    if env::var_os("RAILBUS_STRESS").is_some() { 5_000 } else { 300 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_wait_cost_little_and_all_that_is_sent_comes_through() {
    let (count, rounds) = (connections(), 4);
    let url = "webhook://127.0.0.1:0/hooks?idle_timeout=10m&max_requests=100000&dedup_max=1000000";
    let hooks = WebhookConsumer::open(url).await.unwrap();
    let got: Arc<Mutex<HashSet<String>>> = Arc::default();
    let kept = Arc::clone(&got);
    let handle = async move |event: Event| {
        assert!(kept.lock().unwrap().insert(event.id().to_owned()), "{} came twice", event.id());
    };
    hooks.on("*").run(handle).await.unwrap();
    hooks.start().await.unwrap();
    let address = hooks.address().unwrap();
    let region = Region::new(ALLOCATOR);
    let mut clients = Vec::new();
    for n in 0..count {
        let mut client = Client::to(address).await;
        // Each has said something, so that what is set aside for it is there.
        client.send(request("/hooks", &[("webhook-id", &format!("first-{n}"))], "1")).await;
        assert_eq!(client.answer().await.unwrap().status, 200);
        clients.push(client);
    }
    let change = region.change();
    let each = change.bytes_allocated.saturating_sub(change.bytes_deallocated) / count;
    assert!(each < 64 * 1024, "{each} bytes for each connection, both of its ends together");
    let sending = clients.into_iter().enumerate().map(|(n, mut client)| {
        tokio::spawn(async move {
            for round in 0..rounds {
                let id = format!("{round}-{n}");
                client.send(request("/hooks", &[("webhook-id", &id)], "1")).await;
                assert_eq!(client.answer().await.unwrap().status, 200);
            }
        })
    });
    for one in sending.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert_eq!(got.lock().unwrap().len(), count * (rounds + 1));
    hooks.stop().await.unwrap();
    if env::var_os("RAILBUS_STRESS").is_some() {
        eprintln!("{count} connections: {each} bytes each, both ends together");
    }
}
