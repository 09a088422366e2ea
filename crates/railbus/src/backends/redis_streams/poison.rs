//! Writing what is no event, for the suite that looks what becomes of it.

use super::{
    entry::{EVENT, TOPIC},
    keys::Keys,
    settings::Settings,
};
use crate::{backends::redis::link::Link, error::Result, options::Options};
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
