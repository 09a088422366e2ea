//! What the conformance suite does past all checks: it writes what is no event, to look what becomes of
//! it, and asks the server's clock.

use super::{
    entry::{EVENT, TOPIC},
    keys::Keys,
    settings::Settings,
};
use crate::{backends::redis::link::Link, clock::Timestamp, error::Result, options::Options};
use bytes::Bytes;
use redis::Value;

/// Adds an entry to the stream that these settings name, past all checks.
pub(crate) async fn write_entry(options: Options, topic: String, bytes: Bytes) -> Result<()> {
    let settings = Settings::read(&options)?;
    let (link, keys) = (Link::open(&settings.server).await?, Keys::of(&settings.stream));
    let mut command = redis::cmd("XADD");
    command.arg(&keys.stream).arg("*").arg(TOPIC).arg(topic).arg(EVENT).arg(&*bytes);
    link.ask::<Value>("inject", &command).await.map(drop)
}

/// Returns what time it is by the clock of the server that these settings name.
pub(crate) async fn server_time(options: Options) -> Result<Timestamp> {
    let link = Link::open(&Settings::read(&options)?.server).await?;
    let (seconds, micros): (i64, i64) = link.ask("conformance", &redis::cmd("TIME")).await?;
    Ok(Timestamp::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros)))
}
