//! R3 to R6: streams.

use crate::{
    order::{Order, TYPE, bytes, event},
    pubsub::publish_all,
    raw::{Place, consume, group, send_all, timed, until, xadd},
};
use harness::{Contender, Goal, Result, Row, Sheet, Timed};
use railbus::{Bus, Payload, backend::Outgoing};
use redis::{Cmd, Value};
use serde::Deserialize;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

const ALONE: u64 = 5_000;
const EVENTS: u64 = 100_000;

/// What the bare client sends: the payload alone, or all that Railbus sends.
type Bytes = fn(u64) -> Vec<u8>;

fn bare(number: u64) -> Vec<u8> {
    event(number).raw_payload().text().map(|text| text.to_vec()).unwrap_or_default()
}

fn enveloped(number: u64) -> Vec<u8> {
    bytes(number).unwrap_or_default()
}

pub(crate) fn alone(sheet: &mut Sheet) -> Result<()> {
    let place = Place::new()?;
    let raw = |of: Bytes| {
        let place = &place;
        move |times| {
            place.clear()?;
            place.runtime.block_on(async {
                let mut connection = place.raw().await?;
                timed(async {
                    for number in 0..times {
                        xadd(&of(number)).query_async::<Value>(&mut connection).await?;
                    }
                    Ok(times)
                })
            })
        }
    };
    let subject = |times| {
        place.clear()?;
        place.runtime.block_on(async {
            let bus = place.bus("redis-streams").await?;
            let timed = timed(async {
                for number in 0..times {
                    bus.publish(event(number)).await?;
                }
                Ok(times)
            })?;
            bus.close().await?;
            Ok(timed)
        })
    };
    let row = Row::new("R3", "streams, one publisher alone", Goal::Times(1.1));
    let row = row.with(Contender::base("raw XADD, bare bytes", raw(bare)).times(ALONE));
    let row = row.with(Contender::peer("raw XADD, enveloped", raw(enveloped)).times(ALONE));
    sheet.measure(row.with(Contender::subject("railbus publish", subject).times(ALONE)))
}

fn command(of: Bytes) -> impl Fn(u64) -> Cmd + Clone + Send + Sync + 'static {
    move |number| xadd(&of(number))
}

pub(crate) fn published(sheet: &mut Sheet) -> Result<()> {
    let place = Place::new()?;
    let raw = |of: Bytes| {
        let place = &place;
        move |times| {
            place.clear()?;
            place.runtime.block_on(async {
                let connection = place.raw().await?;
                timed(send_all(&connection, times, command(of)))
            })
        }
    };
    let subject = |times| {
        place.clear()?;
        place.runtime.block_on(async {
            let bus = place.bus("redis-streams").await?;
            let timed = timed(publish_all(&bus, times))?;
            bus.close().await?;
            Ok(timed)
        })
    };
    let row = Row::new("R4", "streams, 64 publishers, each confirmed", Goal::Rate(0.75));
    let row = row.with(Contender::base("raw, bare bytes", raw(bare)).times(EVENTS));
    let row = row.with(Contender::peer("raw, enveloped", raw(enveloped)).times(EVENTS));
    sheet.measure(row.with(Contender::subject("railbus publish", subject).times(EVENTS)))
}

/// Decodes what a handler gets: the payload, and the envelope if it has one.
fn decode_bare(body: &[u8]) -> Result<()> {
    let order: Order = serde_json::from_slice(body)?;
    std::hint::black_box(order.number);
    Ok(())
}

fn decode_enveloped(body: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Envelope {
        id: String,
        data: Order,
    }
    let envelope: Envelope = serde_json::from_slice(body)?;
    std::hint::black_box((envelope.id.len(), envelope.data.number));
    Ok(())
}

pub(crate) fn consumed(sheet: &mut Sheet) -> Result<()> {
    let place = Place::new()?;
    let raw = |of: Bytes, handle: fn(&[u8]) -> Result<()>| {
        let place = &place;
        move |times| {
            place.clear()?;
            place.runtime.block_on(async {
                let (mut reading, acks) = (place.raw().await?, place.raw().await?);
                send_all(&acks, times, command(of)).await?;
                group(&mut reading).await?;
                timed(consume(reading, acks, times, handle))
            })
        }
    };
    let subject = |times| {
        place.clear()?;
        place.runtime.block_on(async {
            let bus = place.bus("redis-streams").await?;
            let events: Vec<_> = (0..times).map(|n| Outgoing::from(event(n))).collect();
            for stored in bus.publish_all(&events).await {
                stored?;
            }
            let timed = timed(async {
                let arrived = count(&bus).await?;
                until(&arrived, times).await?;
                bus.idle().await?;
                Ok(arrived.load(Relaxed))
            })?;
            bus.close().await?;
            Ok(timed)
        })
    };
    let row = Row::new("R5", "streams, consume, decode, ack", Goal::Rate(0.8));
    let row = row.with(Contender::base("raw, bare bytes", raw(bare, decode_bare)).times(EVENTS));
    let enveloped = Contender::peer("raw, enveloped", raw(enveloped, decode_enveloped));
    let row = row.with(enveloped.times(EVENTS));
    sheet.measure(row.with(Contender::subject("railbus group", subject).times(EVENTS)))
}

pub(crate) fn ends(sheet: &mut Sheet) -> Result<()> {
    let place = Place::new()?;
    let raw = |times| -> Result<Timed> {
        place.clear()?;
        place.runtime.block_on(async {
            let (mut reading, acks) = (place.raw().await?, place.raw().await?);
            let sending = place.raw().await?;
            group(&mut reading).await?;
            timed(async {
                let consuming = tokio::spawn(consume(reading, acks, times, decode_enveloped));
                send_all(&sending, times, command(enveloped)).await?;
                consuming.await?
            })
        })
    };
    let subject = |times| {
        place.clear()?;
        place.runtime.block_on(async {
            let (near, far) =
                (place.bus("redis-streams").await?, place.bus("redis-streams").await?);
            let arrived = count(&far).await?;
            let timed = timed(async {
                publish_all(&near, times).await?;
                until(&arrived, times).await?;
                far.idle().await?;
                Ok(arrived.load(Relaxed))
            })?;
            near.close().await?;
            far.close().await?;
            Ok(timed)
        })
    };
    let row = Row::new("R6", "streams, both at once, enveloped", Goal::Rate(0.9));
    let row = row.with(Contender::base("raw, enveloped", raw).times(EVENTS));
    sheet.measure(row.with(Contender::subject("railbus", subject).times(EVENTS)))
}

/// Subscribes a group that counts what it handles.
pub(crate) async fn count(bus: &Bus) -> Result<Arc<AtomicU64>> {
    let arrived = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&arrived);
    let handler = async move |order: Payload<Order>| {
        counter.fetch_add(u64::from(order.number < u64::MAX), Relaxed);
    };
    bus.on(TYPE).group("g").run(handler).await?;
    Ok(arrived)
}
