//! R2 and R7: from a publish to the handler, at 1,000 events a second whatever becomes of them.

use crate::{
    order::{TYPE, bytes, event},
    raw::{Place, each, group, xadd},
};
use futures_util::StreamExt;
use harness::{Failed, Goal, Result, Row, Samples, Sheet};
use railbus::{Event, codec};
use redis::{Value, cmd};
use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval, sleep};

const EVENTS: usize = 1000;
const EVERY: Duration = Duration::from_millis(1);

/// When each event was published and handled.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<(Option<Instant>, Option<Instant>)>>>);

impl Times {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![(None, None); EVENTS])))
    }

    fn sent(&self, number: usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all[number].0 = Some(Instant::now());
    }

    fn came(&self, number: u64) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all[number as usize].1.get_or_insert(now);
    }

    /// Returns the median and the 99th percentile, in nanoseconds.
    async fn quantiles(&self) -> Result<(f64, f64)> {
        for _ in 0..200 {
            let mut taken: Vec<_> = {
                let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let one = |(sent, came): &(Option<Instant>, Option<Instant>)| {
                    Some((*came)?.duration_since((*sent)?).as_nanos() as f64)
                };
                all.iter().filter_map(one).collect()
            };
            if taken.len() == EVENTS {
                taken.sort_by(f64::total_cmp);
                return Ok((taken[EVENTS / 2], taken[EVENTS * 99 / 100]));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err("not all events came".into())
    }
}

fn number_of(body: Vec<u8>) -> u64 {
    let event = codec::decode(&body.into()).ok();
    event.and_then(|event| event.get::<u64>("number")).unwrap_or(0)
}

/// Sends one after another, whatever becomes of those before.
async fn send<F>(times: &Times, publish: impl Fn(u64) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sending = Vec::new();
    for number in 0..EVENTS {
        ticks.tick().await;
        times.sent(number);
        sending.push(tokio::spawn(publish(number as u64)));
    }
    for one in sending {
        one.await??;
    }
    Ok(())
}

fn row(
    sheet: &mut Sheet,
    ids: [&'static str; 2],
    work: [&'static str; 2],
    raw: impl Fn() -> Result<(f64, f64)>,
    railbus: impl Fn() -> Result<(f64, f64)>,
) -> Result<()> {
    let (mut half, mut most) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..sheet.settings().rounds {
        for (at, (p50, p99)) in [raw()?, railbus()?].into_iter().enumerate() {
            half[at].push(p50);
            most[at].push(p99);
        }
    }
    for ((id, work), [base, subject]) in ids.into_iter().zip(work).zip([half, most]) {
        let row = Row::new(id, work, Goal::Times(1.15));
        let row = row.told(Samples::base("raw", base)).told(Samples::subject("railbus", subject));
        sheet.measure(row)?;
    }
    Ok(())
}

pub(crate) fn pubsub(sheet: &mut Sheet) -> Result<()> {
    let place = Place::new()?;
    let raw = || {
        place.runtime.block_on(async {
            let (times, connection) = (Times::new(), place.raw().await?);
            let mut listening = place.client()?.get_async_pubsub().await?;
            listening.subscribe("raw").await?;
            let seen = times.clone();
            let hearing = tokio::spawn(async move {
                let mut messages = listening.into_on_message();
                while let Some(message) = messages.next().await {
                    seen.came(number_of(message.get_payload_bytes().to_vec()));
                }
            });
            let publish = |number| {
                let mut connection = connection.clone();
                async move {
                    let mut publish = cmd("PUBLISH");
                    publish.arg("raw").arg(bytes(number)?);
                    Ok(publish.query_async(&mut connection).await?)
                }
            };
            send(&times, publish).await?;
            let quantiles = times.quantiles().await;
            hearing.abort();
            quantiles
        })
    };
    let work = ["pub/sub at 1,000/s, p50", "pub/sub at 1,000/s, p99"];
    row(sheet, ["R2", "R2-p99"], work, raw, || railbus(&place, "redis", None))
}

pub(crate) fn streams(sheet: &mut Sheet) -> Result<()> {
    let place = Place::new()?;
    let raw = || {
        place.clear()?;
        place.runtime.block_on(async {
            let (times, connection) = (Times::new(), place.raw().await?);
            let (mut reading, mut acks) = (place.raw().await?, place.raw().await?);
            group(&mut reading).await?;
            let seen = times.clone();
            let hearing = tokio::spawn(async move {
                loop {
                    let mut read = cmd("XREADGROUP");
                    read.arg("GROUP").arg("g").arg("c").arg("COUNT").arg(128);
                    read.arg("BLOCK").arg(5000).arg("STREAMS").arg("raw").arg(">");
                    let said: Value = read.query_async(&mut reading).await?;
                    let mut ack = cmd("XACK");
                    ack.arg("raw").arg("g");
                    each(said, |id, body| {
                        ack.arg(id);
                        seen.came(number_of(body.to_vec()));
                        Ok(())
                    })?;
                    ack.query_async::<Value>(&mut acks).await?;
                }
                #[allow(unreachable_code)]
                Ok::<(), Failed>(())
            });
            let publish = |number| {
                let mut connection = connection.clone();
                async move {
                    let added = xadd(&bytes(number)?).query_async::<Value>(&mut connection).await;
                    Ok(added.map(drop)?)
                }
            };
            send(&times, publish).await?;
            let quantiles = times.quantiles().await;
            hearing.abort();
            quantiles
        })
    };
    let work = ["streams at 1,000/s, p50", "streams at 1,000/s, p99"];
    row(sheet, ["R7", "R7-p99"], work, raw, || railbus(&place, "redis-streams", Some("g")))
}

fn railbus(place: &Place, scheme: &str, group: Option<&str>) -> Result<(f64, f64)> {
    place.clear()?;
    place.runtime.block_on(async {
        let (near, far) = (place.bus(scheme).await?, place.bus(scheme).await?);
        let times = Times::new();
        let seen = times.clone();
        let mut on = far.on(TYPE);
        if let Some(group) = group {
            on = on.group(group);
        }
        let handler = move |event: &Event| seen.came(event.get::<u64>("number").unwrap_or(0));
        on.run(handler).await?;
        let publish = |number| {
            let bus = near.clone();
            async move { Ok(bus.publish(event(number)).await.map(drop)?) }
        };
        send(&times, publish).await?;
        let quantiles = times.quantiles().await;
        near.close().await?;
        far.close().await?;
        quantiles
    })
}
