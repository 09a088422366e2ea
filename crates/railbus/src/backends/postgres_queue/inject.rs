//! What the conformance suite does past all checks, as a hand in `psql` might: it writes bytes that are no
//! event, and asks the server's clock.

use super::{
    lines::{Lines, Value},
    settings::Settings,
};
use crate::{clock::Timestamp, error::Result, options::Options};
use bytes::Bytes;
use std::time::Duration;
use tokio_postgres::types::Type;

/// Stores bytes under the name of an event on a topic.
pub(crate) async fn inject(options: Options, topic: String, bytes: Bytes) -> Result<()> {
    let settings = Settings::read(&options)?;
    let lines = Lines::new(&settings);
    let body = &*bytes;
    let values: [Value<'_>; 2] = [(&topic, Type::TEXT), (&body, Type::BYTEA)];
    let publish = "SELECT @.publish('{poison}', ARRAY[$1], ARRAY[$1], NULL, NULL, ARRAY[$2], NULL)";
    let done = lines.query("conformance", publish, &values).await;
    lines.close(Duration::from_secs(5)).await;
    done.map(drop)
}

/// Returns what time it is by the server's clock. This backend's own function is not asked: it is judged
/// by this.
pub(crate) async fn server_time(options: Options) -> Result<Timestamp> {
    let lines = Lines::new(&Settings::read(&options)?);
    let asked = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let micros = lines.one("conformance", asked, &[]).await;
    lines.close(Duration::from_secs(5)).await;
    micros.map(Timestamp::from_micros)
}
