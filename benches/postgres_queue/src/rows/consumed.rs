//! G5: a group consumes and acks what is stored.

use crate::{
    order::{Order, TYPE, bytes, event},
    raw::Raw,
    store::{bus, runtime, server, timed},
};
use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed};
use railbus::{Bus, Payload, backend::Outgoing};
use railbus_testbed::Postgres;
use serde::Deserialize;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

const EVENTS: u64 = 50_000;

pub(crate) fn measure(sheet: &mut Sheet) -> Result<()> {
    let server = server()?;
    let bare =
        Contender::base("raw, claim + delete in 100s", |times| raw(&server, times, |_| Ok(())));
    let decoded = Contender::peer("raw, events decoded", |times| raw(&server, times, decode));
    let subject = Contender::subject("railbus group", |times| railbus(&server, times));
    let row = Row::new("G5", "consume and ack with leases", Goal::Rate(0.8));
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

fn raw(server: &Postgres, times: u64, handle: fn(&[u8]) -> Result<()>) -> Result<Timed> {
    let (database, body) = (server.database()?, bytes(times)?);
    runtime()?.block_on(async {
        Raw::make(&database.url("postgres")).await?;
        let raw = Raw::open(&database.url("postgres")).await?;
        raw.insert(times, &body).await?;
        database.psql("ANALYZE raw")?;
        timed(async {
            let mut arrived = 0;
            loop {
                match raw.consume(handle).await? {
                    0 => return Ok(arrived),
                    more => arrived += more,
                }
            }
        })
    })
}

fn railbus(server: &Postgres, times: u64) -> Result<Timed> {
    let database = server.database()?;
    runtime()?.block_on(async {
        let bus = bus(&database.url("postgres-queue")).await?;
        let events: Vec<_> = (0..times).map(|n| Outgoing::from(event(n))).collect();
        for part in events.chunks(10_000) {
            for stored in bus.publish_all(part).await {
                stored?;
            }
        }
        let timed = timed(async {
            let arrived = count(&bus).await?;
            bus.idle().await?;
            Ok(arrived.load(Relaxed))
        })?;
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
