//! I6: many subscriptions.

use super::emitted::{self, TYPE};
use crate::arrivals::{arrive, counted};
use harness::{Contender, Goal, Result, Row, Sheet, Timed};
use railbus::{Bus, Event};
use std::hint::black_box;

fn other(_: &Event) {}

/// A bus with so many other subscriptions, and one that hears the event.
fn crowded(others: impl Iterator<Item = String>, heard: &str) -> Result<Bus> {
    let bus = Bus::new();
    for pattern in others {
        bus.on(&*pattern).run(other).now()?;
    }
    bus.on(heard).run(|_: &Event| arrive()).now()?;
    Ok(bus)
}

fn emit(bus: Bus) -> impl FnMut(u64) -> Result<Timed> {
    let event = Event::new(TYPE).payload(crate::order::order());
    move |times| {
        counted(|| {
            for _ in 0..times {
                black_box(bus.emit(black_box(&event))?);
            }
            Ok(())
        })
    }
}

pub(crate) fn types(sheet: &mut Sheet) -> Result<()> {
    let alone = emit(emitted::bus(1)?);
    let many = emit(crowded((0..50_000).map(|i| format!("type.of.{i}")), TYPE)?);
    let row = Row::new("I6", "a built event to 1 among 50,000 types", Goal::Times(1.2));
    let row = row.with(Contender::base("railbus emit, alone", alone));
    sheet.measure(row.with(Contender::subject("railbus emit, among them", many)))
}

pub(crate) fn patterns(sheet: &mut Sheet) -> Result<()> {
    for (work, others) in [
        ("1 among patterns like `app00042.*`", ["app", ".*"]),
        ("1 among patterns like `*.event00042`", ["*.event", ""]),
        ("1 among patterns like `*.app00042.*`", ["*.app", ".*"]),
    ] {
        let [before, after] = others;
        let bus = |n| crowded((0..n).map(|i| format!("{before}{i:05}{after}")), "order.*");
        let row = Row::new("I6-patterns", work, Goal::Nanos(5000.0));
        let row = row.with(Contender::base("railbus emit, 1,000", emit(bus(1_000)?)));
        sheet.measure(row.with(Contender::subject("railbus emit, 10,000", emit(bus(10_000)?))))?;
    }
    Ok(())
}

/// Twice as many must not take more than about twice as long each.
pub(crate) fn making(sheet: &mut Sheet) -> Result<()> {
    fn make(names: &[String]) -> Result<Timed> {
        let bus = Bus::new();
        harness::timed(|| {
            for name in names {
                bus.on(&**name).run(other).now()?;
            }
            Ok(names.iter().filter(|name| bus.wants(name)).count() as u64)
        })
    }
    let names: Vec<_> = (0..50_000).map(|i| format!("type.of.{i}")).collect();
    let (half, all) = (&names[..25_000], &names[..]);
    // 1 s for all of them, told as a time for each.
    let row = Row::new("I6-making", "a subscription, 50,000 at once", Goal::Nanos(20_000.0));
    let row = row.with(Contender::base("railbus, 25,000", |_| make(half)).times(25_000));
    sheet.measure(row.with(Contender::subject("railbus, 50,000", |_| make(all)).times(50_000)))
}
