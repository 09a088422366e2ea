//! R1: 64 publishers, one subscriber.

use crate::{
    order::{Order, TYPE, bytes, event},
    raw::{PUBLISHERS, Place, send_all, timed, until},
};
use futures_util::StreamExt;
use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed};
use railbus::{Bus, Event, codec};
use redis::cmd;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

const EVENTS: u64 = 100_000;

pub(crate) fn many(sheet: &mut Sheet) -> Result<()> {
    let place = Place::new()?;
    let base = Contender::base("raw multiplexed, envelope decoded", |times| raw(&place, times));
    let subject = Contender::subject("railbus", |times| railbus(&place, times));
    let row = Row::new("R1", "pub/sub, 64 publishers to 1 subscriber", Goal::Rate(0.85));
    sheet.measure(row.with(base.times(EVENTS)).with(subject.times(EVENTS)))
}

fn raw(place: &Place, times: u64) -> Result<Timed> {
    place.runtime.block_on(async {
        let connection = place.raw().await?;
        let mut listening = place.client()?.get_async_pubsub().await?;
        listening.subscribe("raw").await?;
        let arrived = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&arrived);
        let hearing = tokio::spawn(async move {
            let mut messages = listening.into_on_message();
            while let Some(message) = messages.next().await {
                let body = message.get_payload_bytes().to_vec();
                let Ok(event) = codec::decode(&body.into()) else { continue };
                let Ok(order) = event.payload::<Order>() else { continue };
                counter.fetch_add(u64::from(order.number < u64::MAX), Relaxed);
            }
        });
        let work = async {
            let command = |number| {
                let mut publish = cmd("PUBLISH");
                publish.arg("raw").arg(bytes(number).unwrap_or_default());
                publish
            };
            send_all(&connection, times, command).await?;
            until(&arrived, times).await
        };
        let timed = timed(work);
        hearing.abort();
        timed
    })
}

fn railbus(place: &Place, times: u64) -> Result<Timed> {
    place.runtime.block_on(async {
        let (near, far) = (place.bus("redis").await?, place.bus("redis").await?);
        let arrived = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&arrived);
        let handler = move |event: &Event| {
            let order = event.payload::<Order>().map_or(u64::MAX, |order| order.number);
            counter.fetch_add(u64::from(order < u64::MAX), Relaxed);
        };
        far.on(TYPE).run(handler).await?;
        let work = async {
            publish_all(&near, times).await?;
            until(&arrived, times).await
        };
        let timed = timed(work)?;
        near.close().await?;
        far.close().await?;
        Ok(timed)
    })
}

/// Publishes so many events from 64 tasks; returns how many were confirmed.
pub(crate) async fn publish_all(bus: &Bus, times: u64) -> Result<u64> {
    let tasks: Vec<_> = (0..PUBLISHERS)
        .map(|task| {
            let bus = bus.clone();
            tokio::spawn(async move {
                let mut confirmed = 0;
                for number in (task..times).step_by(PUBLISHERS as usize) {
                    bus.publish(event(number)).await?;
                    confirmed += 1;
                }
                Ok::<u64, Failed>(confirmed)
            })
        })
        .collect();
    let mut confirmed = 0;
    for task in tasks {
        confirmed += task.await??;
    }
    Ok(confirmed)
}
