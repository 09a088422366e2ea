//! What is left of a bus on PostgreSQL, and what a slow one does.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

// Each file uses a part of it.
#[allow(dead_code)]
#[path = "postgres_served/heard.rs"]
mod heard;

use heard::{Heard, PATIENCE, server};
use railbus::{Bus, Event, any, json};
use railbus_testbed::Database;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

/// Waits until the server has no connection of a bus to this database any more.
async fn until_gone(database: &Database<'_>) {
    let began = Instant::now();
    let theirs = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND application_name = 'railbus'";
    while database.psql(theirs).unwrap() != "0" {
        assert!(began.elapsed() < PATIENCE, "a connection stays");
        // sleep: the server ends its processes when it comes to it
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn two_hundred_buses_leave_nothing_behind() {
    let database = server().database().unwrap();
    let url = database.url("postgres");
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let come_and_go = async |dropped: bool| {
        let bus = Bus::open(&url).await.unwrap();
        let mut heard = Heard::on(&bus, "tick").await;
        bus.publish(Event::new("tick")).await.unwrap();
        heard.next().await;
        match dropped {
            true => drop(bus),
            false => bus.close().await.unwrap(),
        }
    };
    come_and_go(false).await;
    let (files_before, tasks_before) = (files(), tasks());
    for n in 0..200 {
        come_and_go(n % 4 == 0).await;
    }
    until_gone(&database).await;
    let began = Instant::now();
    while tasks() > tasks_before {
        assert!(began.elapsed() < PATIENCE, "{} tasks stay", tasks() - tasks_before);
        tokio::task::yield_now().await;
    }
    assert!(files() <= files_before + 2, "{} files stay open", files() - files_before);
}

#[tokio::test]
async fn a_handler_may_close_its_own_bus() {
    let database = server().database().unwrap();
    let bus = Bus::open(database.url("postgres")).await.unwrap();
    let (closing, done) = (bus.clone(), Arc::new(Semaphore::new(0)));
    let tell = Arc::clone(&done);
    bus.on("end")
        .run(async move |_: Event| {
            closing.close().await.unwrap();
            tell.add_permits(1);
        })
        .await
        .unwrap();
    bus.publish(Event::new("end")).await.unwrap();
    timeout(PATIENCE, done.acquire()).await.unwrap().unwrap().forget();
    bus.close().await.unwrap();
    until_gone(&database).await;
}

#[tokio::test]
async fn closing_waits_for_what_runs_and_a_hundred_times_is_once() {
    let database = server().database().unwrap();
    let bus = Bus::open(database.url("postgres")).await.unwrap();
    let (gate, done) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (wait, tell) = (Arc::clone(&gate), Arc::clone(&done));
    bus.on("tick")
        .run(async move |_: Event| {
            tell.add_permits(1);
            wait.acquire().await.unwrap().forget();
            tell.add_permits(1);
        })
        .await
        .unwrap();
    bus.publish(Event::new("tick")).await.unwrap();
    done.acquire().await.unwrap().forget();
    let closing = bus.clone();
    let closing = tokio::spawn(async move { closing.close().await });
    tokio::task::yield_now().await;
    gate.add_permits(1);
    closing.await.unwrap().unwrap();
    assert_eq!(done.available_permits(), 1);
    for _ in 0..100 {
        bus.close().await.unwrap();
    }
    until_gone(&database).await;
}

#[tokio::test]
async fn a_handler_that_is_too_slow_costs_a_bounded_backlog_and_then_events() {
    let database = server().database().unwrap();
    let options = json!({ "url": database.url("postgres"), "backlog": 10 });
    let slow = Bus::open(options).await.unwrap();
    let publishing = Bus::open(database.url("postgres")).await.unwrap();
    let mut fast = Heard::on(&publishing, any()).await;
    let gate = Arc::new(Semaphore::new(0));
    let (wait, seen) = (Arc::clone(&gate), Arc::new(Mutex::new(Vec::new())));
    let note = Arc::clone(&seen);
    slow.on(any())
        .run(async move |event: Event| {
            note.lock().unwrap().push(event.payload::<u32>().unwrap());
            wait.acquire().await.unwrap().forget();
        })
        .await
        .unwrap();
    // More than wait for their turn on a bus, beside what waits for the bus.
    const EVENTS: u32 = 3_000;
    for n in 0..EVENTS {
        publishing.publish(Event::new("tick").payload(n)).await.unwrap();
    }
    // Another bus is not held up.
    assert_eq!(fast.ids(EVENTS as usize).await.len(), EVENTS as usize);
    gate.add_permits(10_000);
    while !slow.is_quiet().await.unwrap() {}
    let first = seen.lock().unwrap().clone();
    assert!(first.len() < EVENTS as usize && first.len() >= 10, "{first:?}");
    assert!(first.is_sorted() && first.starts_with(&[0]), "{first:?}");
    // There is room again.
    publishing.publish(Event::new("tick").payload(10_000)).await.unwrap();
    while !slow.is_quiet().await.unwrap() {}
    assert_eq!(seen.lock().unwrap().last(), Some(&10_000));
    slow.close().await.unwrap();
    publishing.close().await.unwrap();
}
