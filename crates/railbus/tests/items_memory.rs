//! What items cost: as much memory as are worked on at once. Alone in its program, since it counts
//! all there is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Pipeline, each, step, step::Items, store};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::{
    alloc::System,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static MOST: AtomicUsize = AtomicUsize::new(0);

/// Returns how many bytes are in use.
fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Looks at the memory in use at each item.
#[step]
fn see(n: u64) -> u64 {
    MOST.fetch_max(in_use(), Ordering::Relaxed);
    n
}

/// Returns the most bytes in use while so many items were worked on.
fn most(items: u64) -> usize {
    let pipeline = Pipeline::new("p").step(each("items", see).at_once(8).forget()).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = in_use();
    MOST.store(before, Ordering::Relaxed);
    let report = runtime.block_on(pipeline.run(store! { "items" => Items::of(0..items) }));
    assert_eq!(report.step("see").unwrap().items.as_ref().unwrap().succeeded, items);
    MOST.load(Ordering::Relaxed) - before
}

fn main() -> ExitCode {
    most(1_000);
    let (few, many) = (most(1_000), most(1_000_000));
    assert!(many < 2 * few + 64 * 1024, "1,000,000 items took {many} bytes, 1,000 took {few}");
    ExitCode::SUCCESS
}
