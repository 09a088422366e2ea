//! Where a test runs: the same on every backend that can do it, servers of its own included.
#![allow(dead_code)]

use std::any::Any;

/// A backend of a test's own, empty, and gone when this is dropped.
pub(crate) struct Place {
    /// Its address.
    pub(crate) url: String,
    _kept: Box<dyn Any + Send>,
}

impl Place {
    fn new(url: String, kept: impl Any + Send) -> Self {
        Self { url, _kept: Box::new(kept) }
    }

    /// Returns its address with a setting more.
    pub(crate) fn with(&self, setting: &str) -> String {
        let join = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{join}{setting}", self.url)
    }

    /// Returns its address by way of a network that fails when it is told to; none for a file.
    #[cfg(any(feature = "nats", feature = "redis", feature = "postgres"))]
    pub(crate) fn by_proxy(&self) -> Option<(railbus_testbed::Proxy, String)> {
        let server = match self.url.split_once(':')?.0 {
            #[cfg(feature = "nats")]
            "nats" => servers::nats().address(),
            #[cfg(feature = "redis")]
            "redis" | "redis-streams" => servers::redis().address(),
            #[cfg(feature = "postgres")]
            "postgres" | "postgres-queue" => servers::postgres().address(),
            _ => return None,
        };
        let proxy = railbus_testbed::Proxy::to(server).unwrap();
        let url = proxy.url_of(&self.url);
        Some((proxy, url))
    }
}

/// Servers that all tests of a file share, each in a place of its own there.
#[cfg(any(feature = "nats", feature = "redis", feature = "postgres"))]
mod servers {
    use super::Place;
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    };

    #[cfg(feature = "nats")]
    pub(super) fn nats() -> &'static railbus_testbed::Nats {
        static SERVER: OnceLock<railbus_testbed::Nats> = OnceLock::new();
        SERVER.get_or_init(|| railbus_testbed::Nats::start().unwrap())
    }

    /// Makes a place on NATS: a prefix.
    #[cfg(feature = "nats")]
    pub(super) fn on_nats() -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        Place::new(format!("{}?prefix=place{number}", nats().url()), ())
    }

    #[cfg(feature = "redis")]
    pub(super) fn redis() -> &'static railbus_testbed::Redis {
        static SERVER: OnceLock<railbus_testbed::Redis> = OnceLock::new();
        SERVER.get_or_init(|| railbus_testbed::Redis::start().unwrap())
    }

    #[cfg(feature = "postgres")]
    pub(super) fn postgres() -> &'static railbus_testbed::Postgres {
        static SERVER: OnceLock<railbus_testbed::Postgres> = OnceLock::new();
        SERVER.get_or_init(|| railbus_testbed::Postgres::start().unwrap())
    }

    /// Makes a place on Redis: `key` is what keeps it apart from the others.
    #[cfg(feature = "redis")]
    pub(super) fn on_redis(scheme: &str, key: &str) -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        Place::new(format!("{}?{key}=place{number}", redis().url(scheme)), ())
    }

    /// Makes a place on Postgres: a database.
    #[cfg(feature = "postgres")]
    pub(super) fn on_postgres(scheme: &str) -> Place {
        let database = postgres().database().unwrap();
        Place::new(database.url(scheme), database)
    }
}

/// Those that several processes can be on, with groups and broadcasts.
pub(crate) fn durable() -> Vec<Place> {
    vec![
        #[cfg(feature = "sqlite")]
        {
            let folder = tempfile::tempdir().unwrap();
            Place::new(format!("sqlite:{}", folder.path().join("events.db").display()), folder)
        },
        #[cfg(feature = "nats")]
        servers::on_nats(),
        #[cfg(feature = "redis")]
        servers::on_redis("redis-streams", "stream"),
        #[cfg(feature = "postgres")]
        servers::on_postgres("postgres-queue"),
    ]
}

/// Those that several processes can be on.
pub(crate) fn shared() -> Vec<Place> {
    let mut places = durable();
    places.extend(live());
    places
}

/// Those that have broadcasts only.
pub(crate) fn live() -> Vec<Place> {
    vec![
        #[cfg(feature = "redis")]
        servers::on_redis("redis", "prefix"),
        #[cfg(feature = "postgres")]
        servers::on_postgres("postgres"),
    ]
}

/// Those with groups.
pub(crate) fn grouped() -> Vec<Place> {
    let mut places = vec![Place::new("memory:".into(), ())];
    places.extend(durable());
    places
}

/// All of them.
pub(crate) fn all() -> Vec<Place> {
    let mut places = grouped();
    places.extend(live());
    places
}
