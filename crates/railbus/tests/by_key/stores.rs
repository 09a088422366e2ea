//! The stores that are looked at, and how a test opens buses on one. With the features of servers
//! those are looked at as well, each a server of the test's own.

use railbus::{
    Bus, Retry,
    backend::{Backend, Capability},
    backends::{self, memory::Memory},
};
#[cfg(any(feature = "redis", feature = "postgres"))]
use std::sync::OnceLock;
use std::{sync::Arc, time::Duration};

/// One store, empty at the start.
pub(crate) struct Store {
    url: String,
    // What all connections share, where a URL would make each its own.
    memory: Option<Memory>,
    _folder: Option<tempfile::TempDir>,
}

impl Store {
    /// Returns one of each kind.
    pub(crate) fn all() -> Vec<Self> {
        let mut stores = vec![Self::on("memory:".into(), Some(Memory::default()), None)];
        #[cfg(feature = "sqlite")]
        {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite:{}", folder.path().join("k.db").display());
            stores.push(Self::on(url, None, Some(folder)));
        }
        #[cfg(feature = "redis")]
        {
            static SERVER: OnceLock<railbus_testbed::Redis> = OnceLock::new();
            let server = SERVER.get_or_init(|| railbus_testbed::Redis::start().unwrap());
            let prefix = railbus::id::new_id();
            let url = server.url("redis-streams");
            let join = if url.contains('?') { '&' } else { '?' };
            stores.push(Self::on(format!("{url}{join}prefix={prefix}"), None, None));
        }
        #[cfg(feature = "postgres")]
        {
            static SERVER: OnceLock<railbus_testbed::Postgres> = OnceLock::new();
            let server = SERVER.get_or_init(|| railbus_testbed::Postgres::start().unwrap());
            let url = server.database().unwrap().url("postgres-queue");
            stores.push(Self::on(url, None, None));
        }
        stores
    }

    /// Returns one of each kind that can do something.
    pub(crate) fn that(can: fn(&Capability) -> bool) -> Vec<Self> {
        let able = |store: &Self| {
            let options = railbus::Options::parse(&store.url).unwrap();
            can(backends::find(&options).unwrap().capability)
        };
        Self::all().into_iter().filter(able).collect()
    }

    fn on(url: String, memory: Option<Memory>, folder: Option<tempfile::TempDir>) -> Self {
        Self { url, memory, _folder: folder }
    }

    /// Returns the address under which other processes find it.
    pub(crate) fn shared_url(&self) -> Option<&str> {
        self.memory.is_none().then_some(&*self.url)
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
