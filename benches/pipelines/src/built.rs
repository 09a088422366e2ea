//! P6: a graph of 10,000 steps, built and run.

use harness::{Contender, Goal, Result, Row, Sheet, Timed, timed};
use railbus::{Pipeline, Status, StepDef, store};
use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

fn build(steps: usize) -> Result<Pipeline> {
    let step = |n: usize| StepDef::value(format!("s{n}"), |_| ());
    Ok((0..steps).fold(Pipeline::new("p"), |p, n| p.step(step(n))).build()?)
}

fn builds(steps: usize, times: u64) -> Result<Timed> {
    timed(|| {
        for _ in 0..times {
            black_box(build(steps)?);
        }
        Ok(times)
    })
}

fn run(pipeline: &Pipeline, times: u64) -> Result<Timed> {
    timed(|| {
        for _ in 0..times {
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(report) = pin!(pipeline.run(store! {})).poll(&mut context) else {
                return Err("a run waits for something".into());
            };
            if report.status() != Status::Success {
                return Err("a run did not succeed".into());
            }
        }
        Ok(times)
    })
}

pub(crate) fn large(sheet: &mut Sheet) -> Result<()> {
    let small = Contender::base("1,000 steps", |times| builds(1_000, times));
    let large = Contender::subject("10,000 steps", |times| builds(10_000, times));
    let row = Row::new("P6", "build a graph", Goal::Times(12.0));
    sheet.measure(row.with(small).with(large))?;
    let (few, many) = (build(1_000)?, build(10_000)?);
    let few = Contender::base("1,000 steps", move |times| run(&few, times));
    let many = Contender::subject("10,000 steps", move |times| run(&many, times));
    let row = Row::new("P6", "run it", Goal::Times(12.0));
    sheet.measure(row.with(few).with(many))
}
