//! I4: an event is built and published.

use super::emitted::TYPE;
use crate::{
    arrivals::{arrive, counted},
    floor::{self, SyncBus, now},
    order::{Order, map, order},
};
use harness::{Contender, Goal, Result, Row, Sheet};
use railbus::{Bus, Event, Payload};
use serde_json::{Map, Value};
use std::{hint::black_box, sync::Arc, time::SystemTime};
use uuid::Uuid;

/// What a floor's event carries.
struct Envelope<P> {
    id: Uuid,
    time: SystemTime,
    topic: Arc<str>,
    payload: P,
}

pub(crate) fn typed(sheet: &mut Sheet) -> Result<()> {
    let work = "build (id, UTC time, topic, typed payload) and publish to 1 sync handler";
    let json = floor::<Map<String, Value>>(map, |map| map.get("lines").is_some_and(|n| *n == 2));
    let typed = floor::<Arc<Order>>(|| Arc::new(order()), |order| order.lines == 2);
    let bus = Bus::new();
    bus.on(TYPE).run(|order: Payload<Order>| count(order.lines == 2)).now()?;
    let build = || Event::new(TYPE).topic("orders").payload(order());
    let emitting = bus.clone();
    let emit = Contender::subject("railbus, emit", move |times| {
        counted(|| {
            for _ in 0..times {
                black_box(emitting.emit(build())?);
            }
            Ok(())
        })
    });
    let publish = Contender::subject("railbus, publish", move |times| {
        counted(|| {
            for _ in 0..times {
                black_box(now(bus.publish(build()))??);
            }
            Ok(())
        })
    });
    let row = Row::new("I4", work, Goal::Nanos(120.0));
    let row = row.with(Contender::base("floor, uuid v7 and a map", json));
    let row = row.with(Contender::peer("floor, uuid v7 and typed", typed));
    sheet.measure(row.with(emit).with(publish))
}

fn count(right: bool) {
    if right {
        arrive();
    }
}

/// A standard id, the clock, a payload and the dispatch.
fn floor<P: 'static>(
    payload: impl Fn() -> P,
    is_right: fn(&P) -> bool,
) -> impl FnMut(u64) -> Result<harness::Timed> {
    let bus = SyncBus::of(TYPE, 1, move |event: &floor::Event<Envelope<P>>| {
        let Envelope { id, time, topic, payload } = &event.payload;
        black_box((id, time, topic));
        count(is_right(payload));
    });
    let (event_type, topic): (Arc<str>, Arc<str>) = (TYPE.into(), "orders".into());
    move |times| {
        counted(|| {
            for _ in 0..times {
                let payload = Envelope {
                    id: Uuid::now_v7(),
                    time: SystemTime::now(),
                    topic: Arc::clone(&topic),
                    payload: payload(),
                };
                let event_type = Arc::clone(&event_type);
                black_box(bus.publish(&floor::Event { event_type, payload }));
            }
            Ok(())
        })
    }
}
