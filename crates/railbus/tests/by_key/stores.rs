//! The stores that are looked at, and how a test opens buses on one.

use railbus::{
    Bus, Retry,
    backend::Backend,
    backends::{self, memory::Memory},
};
use std::{sync::Arc, time::Duration};

/// One store, empty at the start.
pub(crate) struct Store {
    url: String,
    // What all connections share, where a URL would make each its own.
    memory: Option<Memory>,
    _folder: tempfile::TempDir,
}

impl Store {
    /// Returns one of each kind.
    pub(crate) fn all() -> Vec<Self> {
        let mut schemes = vec!["memory:"];
        if cfg!(feature = "sqlite") {
            schemes.push("sqlite:");
        }
        let store = |scheme: &str| {
            let folder = tempfile::tempdir().unwrap();
            let (url, memory) = match scheme {
                "sqlite:" => (format!("sqlite:{}", folder.path().join("k.db").display()), None),
                other => (other.to_owned(), Some(Memory::default())),
            };
            Self { url, memory, _folder: folder }
        };
        schemes.into_iter().map(store).collect()
    }

    pub(crate) async fn backend(&self) -> Arc<dyn Backend> {
        match &self.memory {
            Some(memory) => Arc::new(memory.connect()),
            None => backends::open(railbus::Options::parse(&self.url).unwrap()).await.unwrap(),
        }
    }

    pub(crate) async fn bus(&self) -> Bus {
        Bus::over(self.backend().await)
    }
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "on {}", self.url.split(':').next().unwrap_or_default())
    }
}

pub(crate) fn quick(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff_factor(Duration::from_millis(1))
}
