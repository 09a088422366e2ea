//! I5: one async handler.

use super::emitted::TYPE;
use crate::{
    arrivals::{arrive, counted},
    floor::{self, AsyncBus, now},
    order::{Order, order},
    peers::ruststream,
};
use harness::{Contender, Goal, Result, Row, Sheet};
use railbus::{Bus, Event, Payload};
use std::hint::black_box;
use tokio::runtime::Builder;

pub(crate) fn one(sheet: &mut Sheet) -> Result<()> {
    built(sheet)?;
    typed(sheet)
}

fn built(sheet: &mut Sheet) -> Result<()> {
    let floor = AsyncBus::of(TYPE, |_: &floor::Event<Order>| async { arrive() });
    let event = floor::Event { event_type: TYPE.into(), payload: order() };
    let floor = Contender::base("floor", move |times| {
        counted(|| {
            for _ in 0..times {
                black_box(now(floor.publish(black_box(&event)))?);
            }
            Ok(())
        })
    });
    let (bus, event) = (Bus::new(), Event::new(TYPE).payload(order()));
    bus.on(TYPE).run(async |_: Event| arrive()).now()?;
    let publish = Contender::subject("railbus publish", move |times| {
        counted(|| {
            for _ in 0..times {
                black_box(now(bus.publish(black_box(&event)))??);
            }
            Ok(())
        })
    });
    let row = Row::new("I5", "a built event to 1 async handler", Goal::Nanos(100.0));
    sheet.measure(row.with(floor).with(publish))
}

fn typed(sheet: &mut Sheet) -> Result<()> {
    let bus = Bus::new();
    bus.on(TYPE).run(async |order: Payload<Order>| count(&order)).now()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let publish = Contender::subject("railbus, build and publish", move |times| {
        counted(|| {
            runtime.block_on(async {
                for _ in 0..times {
                    black_box(bus.publish(Event::new(TYPE).payload(order())).await?);
                }
                Ok(())
            })
        })
    });
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let row = Row::new("I5", "a typed event, built, to 1 async handler", Goal::Nothing);
    sheet.measure(row.with(ruststream::publish(runtime)?.as_base()).with(publish))
}

fn count(order: &Order) {
    if order.lines == 2 {
        arrive();
    }
}
