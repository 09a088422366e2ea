//! P1 to P3: five steps that do nothing, in a line.

use harness::{Contender, Goal, Result, Row, Sheet, Timed, timed};
use railbus::{Bus, Event, Pipeline, PipelineBuilder, Status, StepDef, step, store};
use std::{
    future::Future,
    hint::black_box,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

const STEPS: usize = 5;

/// Polls a future that is ready at once.
fn now<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for something"),
    }
}

fn nothing(name: &str) -> StepDef {
    StepDef::value(name, |_| ())
}

fn line() -> PipelineBuilder {
    let names = ["a", "b", "c", "d", "e"];
    names.into_iter().fold(Pipeline::new("p"), |pipeline, name| pipeline.step(nothing(name)))
}

fn runs(pipeline: &Pipeline, times: u64) -> Result<Timed> {
    timed(|| {
        for _ in 0..times {
            let report = black_box(now(pipeline.run(store! {})));
            if report.status() != Status::Success {
                return Err("a run did not succeed".into());
            }
        }
        Ok(times)
    })
}

/// Closures in boxes, each between two looks at the clock, what it came to kept.
fn floor() -> Contender<'static> {
    type Closure = Box<dyn Fn() -> std::result::Result<(), String>>;
    let steps: Vec<Closure> = (0..STEPS).map(|_| Box::new(|| Ok(())) as Closure).collect();
    Contender::base("closures and clocks", move |times| {
        timed(|| {
            for _ in 0..times {
                let mut kept: Vec<(Duration, bool)> = Vec::with_capacity(STEPS);
                for step in black_box(&steps) {
                    let start = Instant::now();
                    let came = step();
                    kept.push((start.elapsed(), came.is_ok()));
                }
                black_box(kept);
            }
            Ok(times)
        })
    })
}

pub(crate) fn sync(sheet: &mut Sheet) -> Result<()> {
    let pipeline = line().build()?;
    let ours = Contender::subject("railbus", move |times| runs(&pipeline, times));
    let row = Row::new("P1", "5 sync steps that do nothing, a report", Goal::Nanos(1000.0));
    sheet.measure(row.with(floor()).with(ours))
}

pub(crate) fn observed(sheet: &mut Sheet) -> Result<()> {
    let plain = line().build()?;
    let plain = Contender::base("P1", move |times| runs(&plain, times));
    let deaf = Bus::new();
    let unheard = line().observe(&deaf).build()?;
    let nobody = Contender::subject("observed, nobody listens", move |times| {
        let _bus = &deaf;
        runs(&unheard, times)
    });
    let row = Row::new("P2", "the same on a bus without listeners", Goal::Times(1.05));
    sheet.measure(row.with(plain).with(nobody))?;
    static HEARD: AtomicU64 = AtomicU64::new(0);
    let bus = Bus::new();
    let hear = |_: &Event| {
        HEARD.fetch_add(1, Ordering::Relaxed);
    };
    bus.on("pipeline_*").run(hear).now()?;
    bus.on("step_*").run(hear).now()?;
    let heard = line().observe(&bus).build()?;
    let ours = Contender::subject("observed, 12 events to a listener", move |times| {
        let _bus = &bus;
        let before = HEARD.load(Ordering::Relaxed);
        let timed = runs(&heard, times)?;
        match HEARD.load(Ordering::Relaxed) - before == times * 12 {
            true => Ok(timed),
            false => Err("an event was not heard".into()),
        }
    });
    let row = Row::new("P2", "the same, 12 events to a listener", Goal::Nanos(2000.0));
    sheet.measure(row.with(floor()).with(ours))
}

#[step]
async fn awaits() {}

pub(crate) fn asynchronous(sheet: &mut Sheet) -> Result<()> {
    type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
    let step = |_| -> Box<dyn Fn() -> Running> { Box::new(|| Box::pin(async {})) };
    let steps: Vec<_> = (0..STEPS).map(step).collect();
    let floor = Contender::base("boxed futures", move |times| {
        timed(|| {
            for _ in 0..times {
                now(async {
                    for step in black_box(&steps) {
                        step().await;
                    }
                });
            }
            Ok(times)
        })
    });
    let names = ["a", "b", "c", "d", "e"];
    let line = names.into_iter().fold(Pipeline::new("p"), |p, name| p.step(awaits().named(name)));
    let pipeline = line.build()?;
    let ours = Contender::subject("railbus", move |times| runs(&pipeline, times));
    let row = Row::new("P3", "5 async steps that do nothing, a report", Goal::Nanos(1500.0));
    sheet.measure(row.with(floor).with(ours))
}
