//! What a handler answers.

use crate::payload::RawPayload;
use serde::Serialize;
use std::fmt;

/// What a handler returns to answer who [asked](crate::Bus::request): a value, which becomes the
/// payload of the reply.
///
/// The reply is published when the handler has returned, before its event is settled. Where nobody
/// asked, since the event was merely published, the value is dropped. If the handler fails for the
/// last time, who asked is told so at once instead of waiting in vain.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Payload, Reply};
/// use std::{num::ParseIntError, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?;
/// let double = async |text: Payload<String>| {
///     let number: u32 = text.parse()?;
///     Ok::<_, ParseIntError>(Reply::of(number * 2))
/// };
/// bus.on("double").group("calculators").run(double).await?;
///
/// let soon = Duration::from_secs(5);
/// let reply: Event = bus.request(("double", "21"), soon).await?;
/// assert_eq!(reply.payload::<u32>()?, 42);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub struct Reply(RawPayload);

impl Reply {
    /// Answers with a value.
    #[must_use = "a reply is sent when the handler returns it"]
    pub fn of<T: Serialize + Send + Sync + 'static>(value: T) -> Self {
        Self(RawPayload::of(value))
    }

    pub(super) fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    pub(crate) fn into_payload(self) -> RawPayload {
        self.0
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({:?})", self.0)
    }
}
