//! R8: memory over many events, of this process and of the server.

use crate::{
    pubsub::publish_all,
    raw::{Place, until},
    streams::count,
};
use harness::{Failed, Result, Sheet};
use std::{fs, sync::atomic::Ordering::Relaxed};

/// How many events, unless `RAILBUS_BENCH_EVENTS` says so.
const EVENTS: u64 = 10_000_000;

/// In how many parts; memory is looked at after each. The first fifth does not count: by then
/// everything has been needed once.
const PARTS: usize = 50;

/// How much more memory the last fifth may take than the second.
const GROWTH: f64 = 1.05;

pub(crate) fn flat(sheet: &mut Sheet) -> Result<()> {
    through(sheet, "R8", "max_len=10000")
}

pub(crate) fn flat_by_age(sheet: &mut Sheet) -> Result<()> {
    through(sheet, "R8-age", "retention=100ms")
}

/// Memory after a part, in KiB.
struct Look {
    client: f64,
    server: f64,
}

/// Publishes and consumes so many events, trimmed by this setting.
fn through(sheet: &mut Sheet, id: &'static str, setting: &str) -> Result<()> {
    let asked = std::env::var("RAILBUS_BENCH_EVENTS").ok();
    let events = asked.map_or(Ok(EVENTS), |text| text.parse::<u64>())?;
    let (place, part) = (Place::new()?, events / PARTS as u64);
    let server = place.redis.pid().ok_or("the server is down")?;
    let (looks, longest) = place.runtime.block_on(async {
        let (near, far) = (open(&place, setting).await?, open(&place, setting).await?);
        let arrived = count(&far).await?;
        let (mut looks, mut longest) = (Vec::new(), 0);
        for done in 1..=PARTS as u64 {
            publish_all(&near, part).await?;
            until(&arrived, done * part).await?;
            far.idle().await?;
            if arrived.load(Relaxed) != done * part {
                return Err("an event came twice".into());
            }
            longest = longest.max(length(&place)?);
            looks.push(Look { client: resident("self")?, server: resident(&server.to_string())? });
        }
        near.close().await?;
        far.close().await?;
        Ok::<_, Failed>((looks, longest))
    })?;
    let mut lines =
        vec![("the longest stream", format!("{longest} of {} events", part * PARTS as u64))];
    let mut worst: f64 = 0.0;
    for (who, of) in
        [("client", (|look| look.client) as fn(&Look) -> f64), ("server", |look| look.server)]
    {
        let kib: Vec<f64> = looks.iter().map(of).collect();
        let (second, last) = (mean(&kib[PARTS / 5..PARTS * 2 / 5]), mean(&kib[PARTS * 4 / 5..]));
        worst = worst.max(last / second);
        let slope = (last - second) * 1024.0 / (part as f64 * (PARTS * 3 / 5) as f64);
        lines.push((who, format!(
            "{:.1} MiB after the first part, {:.1} in the second fifth, {:.1} in the last: {:.2} times, {slope:.2} bytes an event",
            kib[0] / 1024.0, second / 1024.0, last / 1024.0, last / second
        )));
    }
    let verdict = if worst <= GROWTH { "met" } else { "not met" };
    let work = format!("memory of {} events through redis-streams, {setting}", part * PARTS as u64);
    sheet.tell(id, &work, &format!("at most {GROWTH} times"), &lines, verdict);
    Ok(())
}

async fn open(place: &Place, setting: &str) -> Result<railbus::Bus> {
    let url = place.redis.url("redis-streams");
    let sign = if url.contains('?') { '&' } else { '?' };
    Ok(railbus::Bus::open(format!("{url}{sign}{setting}").as_str()).await?)
}

/// Returns how long the stream is.
fn length(place: &Place) -> Result<u64> {
    let keys = place.redis.command(&["KEYS", "*"])?;
    for key in keys.lines() {
        if place.redis.command(&["TYPE", key])?.trim() == "stream" {
            return Ok(place.redis.command(&["XLEN", key])?.trim().parse()?);
        }
    }
    Ok(0)
}

/// Returns the memory that a process has, in KiB.
fn resident(process: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kib.ok_or_else(|| "the system does not tell of memory".into())
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len() as f64
}
