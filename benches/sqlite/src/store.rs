//! A store in a folder of its own, and what a bus on it needs.

use harness::Result;
use railbus::Bus;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// What an Ok survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Full,
    Normal,
}

impl Sync {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

/// A place for one database; it is removed in the end.
#[derive(Debug)]
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(TempDir::new()?))
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("events.db")
    }

    pub(crate) fn url(&self, sync: Sync) -> String {
        format!("sqlite:{}?synchronous={}", self.file().display(), sync.name())
    }

    pub(crate) async fn bus(&self, sync: Sync) -> Result<Bus> {
        Ok(Bus::open(self.url(sync)).await?)
    }
}

/// A runtime as programs have it.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
