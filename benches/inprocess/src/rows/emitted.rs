//! I1 to I3: a built event to sync handlers.

use crate::{
    arrivals::{arrive, counted},
    floor::{self, SyncBus, now},
    order::{Order, map, order},
    peers::{bevy, broadcast, evenio},
};
use harness::{Contender, Goal, Result, Row, Sheet};
use railbus::{Bus, Event, event_type, key_equals};
use serde_json::{Map, Value};
use std::hint::black_box;

pub(crate) const TYPE: &str = "order.placed";

/// The floor: so many boxed closures.
pub(crate) fn floor(handlers: usize) -> Contender<'static> {
    let bus = SyncBus::of(TYPE, handlers, |_: &floor::Event<Order>| arrive());
    let event = floor::Event { event_type: TYPE.into(), payload: order() };
    Contender::base("floor", move |times| {
        counted(|| {
            for _ in 0..times {
                black_box(bus.publish(black_box(&event)));
            }
            Ok(())
        })
    })
    .arrivals(handlers as u64)
}

/// A bus with so many handlers of one type.
pub(crate) fn bus(handlers: usize) -> Result<Bus> {
    let bus = Bus::new();
    for _ in 0..handlers {
        bus.on(TYPE).run(|_: &Event| arrive()).now()?;
    }
    Ok(bus)
}

/// `emit` of a built event.
pub(crate) fn emit(handlers: usize) -> Result<Contender<'static>> {
    let (bus, event) = (bus(handlers)?, Event::new(TYPE).payload(order()));
    let contender = Contender::subject("railbus emit", move |times| {
        counted(|| {
            for _ in 0..times {
                black_box(bus.emit(black_box(&event))?);
            }
            Ok(())
        })
    });
    Ok(contender.arrivals(handlers as u64))
}

/// `publish` of a built event, which is ready at once.
pub(crate) fn publish(handlers: usize) -> Result<Contender<'static>> {
    let (bus, event) = (bus(handlers)?, Event::new(TYPE).payload(order()));
    let contender = Contender::subject("railbus publish", move |times| {
        counted(|| {
            for _ in 0..times {
                black_box(now(bus.publish(black_box(&event)))??);
            }
            Ok(())
        })
    });
    Ok(contender.arrivals(handlers as u64))
}

pub(crate) fn one(sheet: &mut Sheet) -> Result<()> {
    let row = Row::new("I1", "a built event to 1 sync handler", Goal::Times(1.3));
    sheet.measure(contenders(row, 1)?)
}

pub(crate) fn several(sheet: &mut Sheet) -> Result<()> {
    let ten = Row::new("I3", "a built event to 10 sync handlers", Goal::Times(1.2));
    sheet.measure(contenders(ten, 10)?)?;
    let hundred = Row::new("I3", "a built event to 100 sync handlers", Goal::Times(1.1));
    sheet.measure(contenders(hundred, 100)?)
}

fn contenders(row: Row<'static>, handlers: usize) -> Result<Row<'static>> {
    let row = row.with(floor(handlers)).with(emit(handlers)?).with(publish(handlers)?);
    let row = row.with(evenio::send(handlers)).with(bevy::trigger(handlers));
    Ok(row.with(broadcast::send(handlers)))
}

pub(crate) fn key(sheet: &mut Sheet) -> Result<()> {
    let row = Row::new("I2", "a JSON map, past a key predicate, to 1", Goal::Times(1.3));
    let floor = {
        let handler = |event: &floor::Event<Map<String, Value>>| {
            if event.payload.get("kind").is_some_and(|kind| kind == "b2b") {
                arrive();
            }
        };
        let bus = SyncBus::of(TYPE, 1, handler);
        let event = floor::Event { event_type: TYPE.into(), payload: map() };
        Contender::base("floor", move |times| {
            counted(|| {
                for _ in 0..times {
                    black_box(bus.publish(black_box(&event)));
                }
                Ok(())
            })
        })
    };
    let bus = Bus::new();
    bus.on(event_type(TYPE) & key_equals("kind", "b2b")).run(|_: &Event| arrive()).now()?;
    let event = Event::new(TYPE).payload(Value::Object(map()));
    let emit = Contender::subject("railbus emit", move |times| {
        counted(|| {
            for _ in 0..times {
                black_box(bus.emit(black_box(&event))?);
            }
            Ok(())
        })
    });
    sheet.measure(row.with(floor).with(emit))
}
