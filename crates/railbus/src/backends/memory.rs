//! Events inside one process: delivered within publish, kept nowhere.

use crate::{
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
    error::{Error, ErrorKind, Result},
    options::{Options, Setting, redact},
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

/// What can be set: nothing.
pub const SETTINGS: &[Setting] = &[];

/// Checks that there is neither an address nor a setting.
///
/// # Errors
/// Returns a config error that names what is there.
pub fn check(options: &Options) -> Result<()> {
    options.check(SETTINGS)?;
    if !options.address().is_empty() {
        let why = "memory has no address";
        return Err(Error::new(ErrorKind::Config, "open memory", why)
            .with("address", redact(options.address()))
            .hint("write memory: alone; for a file, sqlite:PATH"));
    }
    Ok(())
}

/// Opens the memory of this bus.
///
/// # Errors
/// As [`check`].
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    check(&options)?;
    Ok(Arc::new(Memory::default()))
}

/// The backend of a bus that delivers inside publish: it has nothing to carry.
#[derive(Debug, Default)]
pub struct Memory {
    closed: AtomicBool,
}

impl Memory {
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
        Err(CAPABILITY.refuse("delivers inside publish and has no sources of its own", &["sqlite"]))
    }

    async fn ping(&self) -> Result<()> {
        self.check()
    }

    async fn close(&self, _deadline: Duration) -> Result<()> {
        self.closed.store(true, Relaxed);
        Ok(())
    }
}
