//! What the conformance suite does past all checks: it writes what is no event, to look what becomes of
//! it, and asks the server's clock.

use super::{api::Api, link::Link, settings::Settings, streams::Streams};
use crate::{clock::Timestamp, error::Result, options::Options};
use bytes::Bytes;

async fn streams(options: &Options) -> Result<Streams> {
    let settings = Settings::read(options)?;
    let api = Api::new(Link::open(&settings.server).await?, &settings.api);
    Ok(Streams::new(api, &settings))
}

/// Gives the stream that these settings name a message, past all checks.
pub(crate) async fn write_message(options: Options, topic: String, bytes: Bytes) -> Result<()> {
    let streams = streams(&options).await?;
    let subject = streams.of_topic(&topic);
    let kept = streams.api.put("inject", &subject, None, bytes).await?;
    kept.map_or(Ok(()), |kept| kept.map(drop).map_err(|refusal| refusal.error("inject")))
}

/// Returns what time it is by the clock of the server that these settings name.
pub(crate) async fn server_time(options: Options) -> Result<Timestamp> {
    let streams = streams(&options).await?;
    streams.prepare().await?;
    streams.now().await
}
