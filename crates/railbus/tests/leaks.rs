//! What a bus keeps of what is gone: nothing. Alone in its program, since it counts all there is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, any, testing::Recorder, topic};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{alloc::System, fs, process::ExitCode};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many bytes are in use more than at the start of a region, as a whole.
fn grown(region: &Region<'_, System>) -> i64 {
    let change = region.change();
    i64::try_from(change.bytes_allocated).unwrap()
        - i64::try_from(change.bytes_deallocated).unwrap()
}

/// Makes and drops subscriptions of all kinds, 100 of which stay for a while.
fn come_and_go(bus: &Bus, count: usize) {
    let mut kept = Vec::new();
    for n in 0..count {
        let on = match n % 4 {
            0 => bus.on("order.placed"),
            1 => bus.on(topic(&format!("shop:{}", n % 100))),
            2 => bus.on("order.*"),
            _ => bus.on(any()),
        };
        let guard = on.run(move |_: &Event| assert!(n < 1_000_000)).now().unwrap().guard();
        if n % (count / 100) == 0 {
            kept.push(guard);
        }
    }
    let report = bus.emit(Event::new("order.placed").topic("shop:0")).unwrap();
    assert_eq!(report.matched, kept.len());
}

/// Asserts that 1,000,000 subscriptions leave no more behind than 10,000 do.
fn subscriptions_leave_nothing_behind() {
    let bus = Bus::new();
    come_and_go(&bus, 10_000);
    let region = Region::new(ALLOCATOR);
    come_and_go(&bus, 1_000_000);
    let left = grown(&region);
    assert!(left < 16 * 1024, "1,000,000 subscriptions left {left} bytes");
    assert_eq!(bus.emit(Event::new("order.placed")).unwrap().matched, 0);
}

fn entries(of: &str) -> usize {
    fs::read_dir(format!("/proc/self/{of}")).unwrap().count()
}

/// Asserts that buses leave neither memory, nor threads, nor open files behind.
fn buses_leave_nothing_behind() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // How many threads its pool keeps is its own affair, except that it is one.
    let runtime = builder.enable_all().max_blocking_threads(1).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("events.db").display());
    let use_one = async |url: &str| {
        let (bus, received) = (Bus::open(url).await.unwrap(), Recorder::new());
        bus.on("a").group("g").named("n").run(received.clone()).await.unwrap();
        bus.on("a").run(received.clone()).await.unwrap();
        bus.publish(Event::new("a").payload("x".repeat(1000))).await.unwrap();
        received.wait_for(2).await;
        bus.idle().await.unwrap();
        bus.close().await.unwrap();
    };
    for url in ["memory:", &*url] {
        let settle = |times: usize| {
            runtime.block_on(async {
                for _ in 0..times {
                    use_one(url).await;
                }
            });
        };
        settle(3);
        let before = (entries("task"), entries("fd"), runtime.metrics().num_alive_tasks());
        let region = Region::new(ALLOCATOR);
        settle(30);
        let after = (entries("task"), entries("fd"), runtime.metrics().num_alive_tasks());
        assert_eq!(before, after, "threads, files and tasks after 30 buses on {url}");
        let left = grown(&region);
        assert!(left < 64 * 1024, "30 buses on {url} left {left} bytes");
    }
}

fn main() -> ExitCode {
    subscriptions_leave_nothing_behind();
    buses_leave_nothing_behind();
    ExitCode::SUCCESS
}
