//! One piece of work, done a number of times, to be counted: `counts SCENARIO TIMES`.
//!
//! Prints how many allocations it made. Run it twice with different numbers, and the difference is
//! what the work itself costs.

use railbus::{
    Bus, Error, ErrorKind, Event, Payload, Pipeline, Report, Status, StepDef, event_type, json,
    key_equals, store,
};
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::{
    alloc::System,
    future::Future,
    hint::black_box,
    pin::pin,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, Waker},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    lines: u32,
}

/// How often a handler ran.
static HANDLED: AtomicU64 = AtomicU64::new(0);

fn handle(_: &Event) {
    HANDLED.store(HANDLED.load(Relaxed) + 1, Relaxed);
}

fn handle_typed(order: Payload<Order>) {
    HANDLED.store(HANDLED.load(Relaxed) + u64::from(order.lines == 2), Relaxed);
}

fn bus(handlers: usize) -> railbus::Result<Bus> {
    let bus = Bus::new();
    for _ in 0..handlers {
        bus.on("order.placed").run(handle).now()?;
    }
    Ok(bus)
}

/// Polls a future that is ready at once, as those of a bus in memory are.
fn now<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for something"),
    }
}

fn repeat(times: u64, mut work: impl FnMut() -> railbus::Result<Report>) -> railbus::Result<()> {
    for _ in 0..times {
        black_box(work()?);
    }
    Ok(())
}

fn order() -> Order {
    Order { id: black_box(7), lines: black_box(2) }
}

/// Does the work; returns how many handlers must have run.
fn run(scenario: &str, times: u64) -> railbus::Result<Option<u64>> {
    let map = json!({ "id": 7, "kind": "b2b", "lines": 2, "rush": false });
    let event = Event::new("order.placed").payload(map);
    let expected = match scenario {
        "emit_1" => repeat(times, with(bus(1)?, |bus| bus.emit(&event))).map(|()| times),
        "emit_10" => repeat(times, with(bus(10)?, |bus| bus.emit(&event))).map(|()| 10 * times),
        "emit_100" => repeat(times, with(bus(100)?, |bus| bus.emit(&event))).map(|()| 100 * times),
        "emit_nobody" => repeat(times, with(bus(0)?, |bus| bus.emit(&event))).map(|()| 0),
        "publish_1" => repeat(times, with(bus(1)?, |bus| now(bus.publish(&event)))).map(|()| times),
        "publish_async" => {
            let bus = Bus::new();
            bus.on("order.placed").run(async |event: Event| handle(&event)).now()?;
            repeat(times, with(bus, |bus| now(bus.publish(&event)))).map(|()| times)
        }
        "emit_key" => {
            let bus = Bus::new();
            bus.on(event_type("order.placed") & key_equals("kind", "b2b")).run(handle).now()?;
            repeat(times, with(bus, |bus| bus.emit(&event))).map(|()| times)
        }
        "build" => {
            for _ in 0..times {
                black_box(Event::new("order.placed").topic("orders").payload(order()));
            }
            Ok(0)
        }
        "build_publish_typed" => {
            let bus = Bus::new();
            bus.on("order.placed").run(handle_typed).now()?;
            let publish = |bus: &Bus| {
                now(bus.publish(Event::new("order.placed").topic("orders").payload(order())))
            };
            repeat(times, with(bus, publish)).map(|()| times)
        }
        "typed" => {
            let bus = Bus::new();
            bus.on("order.placed").run(handle_typed).now()?;
            let event = Event::new("order.placed").topic("orders").payload(order());
            repeat(times, with(bus, |bus| now(bus.publish(&event)))).map(|()| times)
        }
        "typed_wire_always" => {
            let bus = now(Bus::open("memory:?wire=always"))?;
            bus.on("order.placed").run(handle_typed).now()?;
            let publish = |bus: &Bus| {
                now(bus.publish(Event::new("order.placed").topic("orders").payload(order())))
            };
            repeat(times, with(bus, publish)).map(|()| times)
        }
        "run_5" => runs(None, times).map(|()| 0),
        "run_5_unheard" => runs(Some(&Bus::new()), times).map(|()| 0),
        "run_5_heard" => {
            let bus = Bus::new();
            bus.on("pipeline_*").run(handle).now()?;
            bus.on("step_*").run(handle).now()?;
            // A start and an end, of the run and of each step.
            runs(Some(&bus), times).map(|()| 12 * times)
        }
        "group" => return group(times).map(Some),
        _ => return Ok(None),
    };
    expected.map(Some)
}

fn with<'a>(
    bus: Bus,
    work: impl Fn(&Bus) -> railbus::Result<Report> + 'a,
) -> impl FnMut() -> railbus::Result<Report> + 'a {
    move || work(&bus)
}

/// Runs five steps that do nothing, told of to `observed`.
fn runs(observed: Option<&Bus>, times: u64) -> railbus::Result<()> {
    let names = ["a", "b", "c", "d", "e"];
    let nothing = |name: &str| StepDef::value(name, |_| ());
    let line = names.iter().fold(Pipeline::new("p"), |line, name| line.step(nothing(name)));
    let line = match observed {
        Some(bus) => line.observe(bus),
        None => line,
    };
    let pipeline = line.build()?;
    for _ in 0..times {
        let report = now(pipeline.run(store! {}));
        if report.status() != Status::Success {
            return Err(Error::new(ErrorKind::Internal, "counts", "a run did not succeed"));
        }
    }
    Ok(())
}

/// A group in memory, from publish to settled.
fn group(times: u64) -> railbus::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let failed = |e| Error::new(ErrorKind::Internal, "counts", "no runtime").because(e);
    let runtime = runtime.map_err(failed)?;
    runtime.block_on(async {
        let bus = Bus::new();
        bus.on("order.placed").group("g").run(handle_typed).await?;
        for _ in 0..times {
            bus.publish(Event::new("order.placed").payload(order())).await?;
        }
        bus.idle().await?;
        bus.close().await?;
        Ok(times)
    })
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let (Some(scenario), Some(Ok(times))) = (args.get(1), args.get(2).map(|n| n.parse())) else {
        eprintln!("usage: counts SCENARIO TIMES");
        return ExitCode::from(2);
    };
    match run(scenario, times) {
        Ok(Some(expected)) if expected == HANDLED.load(Relaxed) => {
            println!("allocations {}", ALLOCATOR.stats().allocations);
            ExitCode::SUCCESS
        }
        Ok(Some(expected)) => {
            eprintln!("{} handled instead of {expected}", HANDLED.load(Relaxed));
            ExitCode::FAILURE
        }
        Ok(None) => {
            eprintln!("no scenario `{scenario}`");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
