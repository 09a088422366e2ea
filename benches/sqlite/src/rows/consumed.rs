//! S2: a group consumes and acks what is stored.

use crate::{
    order::{Order, TYPE, bytes, event},
    raw::Raw,
    store::{Place, Sync, runtime},
};
use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed};
use railbus::{Bus, Payload, backend::Outgoing};
use serde::Deserialize;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

const EVENTS: u64 = 20_000;

pub(crate) fn full(sheet: &mut Sheet) -> Result<()> {
    measure(sheet, "S2", "consume and ack with leases; FULL", Sync::Full)
}

pub(crate) fn normal(sheet: &mut Sheet) -> Result<()> {
    measure(sheet, "S2-normal", "consume and ack with leases; NORMAL", Sync::Normal)
}

fn measure(sheet: &mut Sheet, id: &'static str, work: &'static str, sync: Sync) -> Result<()> {
    let bare = Contender::base("raw, claim + delete in 100s", |times| raw(sync, times, |_| Ok(())));
    let decoded = Contender::peer("raw, events decoded", |times| raw(sync, times, decode));
    let subject = Contender::subject("railbus group", |times| railbus(sync, times));
    let row = Row::new(id, work, Goal::Rate(0.7));
    let row = row.with(bare.times(EVENTS)).with(decoded.times(EVENTS));
    sheet.measure(row.with(subject.times(EVENTS)))
}

/// Decodes what a handler gets: the envelope, and the payload.
fn decode(body: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Envelope {
        id: String,
        data: Order,
    }
    let envelope: Envelope = serde_json::from_slice(body)?;
    std::hint::black_box((envelope.id.len(), envelope.data.number));
    Ok(())
}

fn raw(sync: Sync, times: u64, handle: fn(&[u8]) -> Result<()>) -> Result<Timed> {
    let place = Place::new()?;
    let mut raw = Raw::open(&place, sync)?;
    raw.insert(times, &bytes(times)?)?;
    let timed = harness::timed(|| {
        let mut arrived = 0;
        loop {
            match raw.consume(handle)? {
                0 => return Ok(arrived),
                more => arrived += more,
            }
        }
    })?;
    match raw.count()? {
        0 => Ok(timed),
        left => Err(format!("{left} rows were left").into()),
    }
}

fn railbus(sync: Sync, times: u64) -> Result<Timed> {
    let (place, runtime) = (Place::new()?, runtime()?);
    runtime.block_on(async {
        let bus = place.bus(sync).await?;
        let events: Vec<_> = (0..times).map(|n| Outgoing::from(event(n))).collect();
        for stored in bus.publish_all(&events).await {
            stored?;
        }
        let runtime = tokio::runtime::Handle::current();
        let consume = || {
            tokio::task::block_in_place(|| {
                runtime.block_on(async {
                    let arrived = count(&bus).await?;
                    bus.idle().await?;
                    Ok(arrived.load(Relaxed))
                })
            })
        };
        let timed = harness::timed(consume)?;
        bus.close().await?;
        Ok::<_, Failed>(timed)
    })
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
