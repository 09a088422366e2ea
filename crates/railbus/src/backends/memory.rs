//! Events inside one process: delivered within publish, kept nowhere.

use crate::{
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use async_trait::async_trait;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// What the memory backend guarantees.
pub const CAPABILITY: Capability = Capability::inline("memory");

/// What can be set.
pub const SETTINGS: &[Setting] = &[Setting {
    key: "wire",
    help: "lazy (default): payloads are handed on as they are; always: encoded and decoded on the way, as a server would",
}];

/// When payloads are turned into bytes on their way to a handler of the same process.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Never: handlers get the value that was published.
    #[default]
    Lazy,
    /// Always, so that what passes here passes on a server too.
    Always,
}

fn wire(options: &Options) -> Result<Wire> {
    let allowed = [("lazy", Wire::Lazy), ("always", Wire::Always)];
    Ok(options.one_of("wire", &allowed)?.unwrap_or_default())
}

/// Checks that there is no address, and the settings.
///
/// # Errors
/// Returns a config error that names what is there, or the setting that is unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    options.check(SETTINGS)?;
    if !options.address().is_empty() {
        let why = "memory has no address";
        return Err(Error::new(ErrorKind::Config, "open memory", why)
            .hint("write memory: alone; for a file, sqlite:PATH"));
    }
    wire(options).map(|_| ())
}

/// Opens the memory of this bus.
///
/// # Errors
/// As [`check`].
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    check(&options)?;
    Ok(Arc::new(Memory { wire: wire(&options)?, ..Memory::default() }))
}

/// The backend of a bus that delivers inside publish: it has nothing to carry.
#[derive(Debug, Default)]
pub struct Memory {
    closed: AtomicBool,
    wire: Wire,
}

impl Memory {
    /// Tells when payloads are turned into bytes.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.wire
    }

    fn check(&self) -> Result<()> {
        if self.closed.load(Relaxed) {
            return Err(Error::new(ErrorKind::Closed, "memory", "the bus is closed"));
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Memory {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let one = |o: &Outgoing| self.check().and_then(|()| o.event.check());
        batch.iter().map(one).collect()
    }

    async fn subscribe(&self, _request: Subscribe) -> Result<Arc<dyn Source>> {
        self.check()?;
        Err(CAPABILITY.refuse(
            "subscribe",
            "delivers inside publish and has no sources of its own",
            &["sqlite"],
        ))
    }

    fn encodes(&self) -> bool {
        self.wire == Wire::Always
    }

    async fn ping(&self) -> Result<()> {
        self.check()
    }

    async fn close(&self, _deadline: Duration) -> Result<()> {
        self.closed.store(true, Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, Result, Wire, wire};

    #[test]
    fn payloads_are_handed_on_as_they_are_unless_told_otherwise() -> Result<()> {
        for (url, expected) in [
            ("memory:", Wire::Lazy),
            ("memory:?wire=lazy", Wire::Lazy),
            ("memory:?wire=Always", Wire::Always),
        ] {
            assert_eq!(wire(&Options::parse(url)?)?, expected, "{url}");
        }
        Ok(())
    }
}
