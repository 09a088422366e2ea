//! Where a test runs: the same on every backend that can do it.
#![allow(dead_code)]

use std::any::Any;

/// A backend of a test's own, gone when this is dropped.
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
}

/// Those that several processes can be on, groups and broadcasts.
pub(crate) fn durable() -> Vec<Place> {
    let mut places = Vec::new();
    #[cfg(feature = "sqlite")]
    {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("events.db").display());
        places.push(Place::new(url, folder));
    }
    places
}

/// Those that several processes can be on.
pub(crate) fn shared() -> Vec<Place> {
    durable()
}

/// All of them.
pub(crate) fn all() -> Vec<Place> {
    let mut places = vec![Place::new("memory:".into(), ())];
    places.extend(shared());
    places
}
