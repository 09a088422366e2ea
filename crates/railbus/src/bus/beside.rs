//! What a bus has beside it, and closes with itself.

use crate::error::Result;
use futures_util::future::BoxFuture;
use std::{any::Any, time::Duration};

/// What a bus has beside it: named producers and consumers, each a bus of its own.
pub(super) trait Beside: Send + Sync {
    /// Stops what fetches; returns at once.
    fn stop(&self);

    /// Finishes what fetches, before the bus does.
    fn finish(&self, deadline: Duration) -> BoxFuture<'_, Result<()>>;

    /// Finishes the rest, when the bus is through: its handlers may have needed it.
    fn finish_last(&self, deadline: Duration) -> BoxFuture<'_, Result<()>>;

    fn as_any(&self) -> &dyn Any;
}
