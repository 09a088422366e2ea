//! I7: two publishers on two cores.

use super::emitted::TYPE;
use crate::{
    arrivals::{arrive_here, here},
    floor::{self, SyncBus},
    order::{Order, order},
};
use harness::{Contender, Goal, Result, Row, Sheet, Timed};
use railbus::{Bus, Event};
use std::{hint::black_box, sync::Barrier, thread};

pub(crate) fn two(sheet: &mut Sheet) -> Result<()> {
    let spin = |times: u64| {
        for i in 0..times {
            // About as much as a publish, and nothing shared.
            (0..20).fold(i, |x, y| black_box(x.wrapping_mul(31) ^ y));
            arrive_here();
        }
        Ok(())
    };
    let row = Row::new("I7", "the machine: nothing shared", Goal::Nothing);
    sheet.measure(scaled(row, &spin))?;

    let bus = SyncBus::of(TYPE, 1, |_: &floor::Event<Order>| arrive_here());
    let publish = |times: u64| {
        let event = floor::Event { event_type: TYPE.into(), payload: order() };
        for _ in 0..times {
            black_box(bus.publish(black_box(&event)));
        }
        Ok(())
    };
    let row = Row::new("I7", "the floor: 2 publishers on 2 cores", Goal::Nothing);
    sheet.measure(scaled(row, &publish))?;

    let bus = Bus::new();
    bus.on(TYPE).run(|_: &Event| arrive_here()).now()?;
    let emit = |times: u64| {
        let event = Event::new(TYPE).payload(order());
        for _ in 0..times {
            black_box(bus.emit(black_box(&event))?);
        }
        Ok(())
    };
    let row = Row::new("I7", "railbus: 2 publishers on 2 cores", Goal::Rate(1.8));
    sheet.measure(scaled(row, &emit))
}

/// The work on one thread, and on two at once.
fn scaled<'a>(row: Row<'a>, work: &'a (impl Fn(u64) -> Result<()> + Sync)) -> Row<'a> {
    let one = move |times| on_threads(1, times, work);
    let two = move |times| on_threads(2, times, work);
    row.with(Contender::base("1 publisher", one)).with(Contender::subject("2 publishers", two))
}

/// Shares the events out among threads.
fn on_threads(
    threads: u64,
    times: u64,
    work: &(impl Fn(u64) -> Result<()> + Sync),
) -> Result<Timed> {
    let barrier = Barrier::new(threads as usize + 1);
    thread::scope(|scope| {
        let share = |i: u64| times / threads + u64::from(i < times % threads);
        let running: Vec<_> = (0..threads)
            .map(|i| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    work(share(i))?;
                    Ok::<_, harness::Failed>(here())
                })
            })
            .collect();
        harness::timed(|| {
            barrier.wait();
            let mut arrived = 0;
            for thread in running {
                arrived += thread.join().map_err(|_| "a publisher panicked")??;
            }
            Ok(arrived)
        })
    })
}
