//! Inputs: where an app's events come from.

use crate::{
    backend::{Outgoing, Position},
    error::Result,
};
use async_trait::async_trait;

/// A source of events for an app, read by one task.
#[async_trait]
pub trait EventInput: Send + std::fmt::Debug + 'static {
    /// Returns the name under which positions are stored.
    fn name(&self) -> &str;

    /// Tells whether it never ends by itself.
    fn is_endless(&self) -> bool;

    /// Goes to where reading left off; called before the first `next`, and again if another
    /// process moved the position.
    ///
    /// # Errors
    /// Returns a `Changed` error if what lies before the position is not what was read.
    async fn resume(&mut self, position: Option<Position>) -> Result<()>;

    /// Waits for events and returns some, at least one; empty at the end.
    ///
    /// # Cancel safety
    /// What was not returned is returned by the next call.
    async fn next(&mut self) -> Result<Vec<Outgoing>>;
}
