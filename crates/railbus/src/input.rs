//! Inputs: where an app's events come from.

use crate::{
    backend::{Outgoing, Position},
    error::Result,
};
use async_trait::async_trait;

/// A source of events for an app, read by one task.
///
/// # Examples
/// ```
/// use railbus::{Event, Result, backend::{Outgoing, Position}, input::EventInput};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// /// Counts down to zero.
/// #[derive(Debug)]
/// struct Countdown(u32);
///
/// #[async_trait::async_trait]
/// impl EventInput for Countdown {
///     fn name(&self) -> &str {
///         "countdown"
///     }
///
///     fn is_endless(&self) -> bool {
///         false
///     }
///
///     async fn resume(&mut self, _: Option<Position>) -> Result<()> {
///         Ok(())
///     }
///
///     async fn next(&mut self) -> Result<Vec<Outgoing>> {
///         let Some(left) = self.0.checked_sub(1) else { return Ok(Vec::new()) };
///         self.0 = left;
///         Ok(vec![Event::new("tick").payload(left).into()])
///     }
/// }
///
/// let mut input = Countdown(2);
/// assert_eq!(input.next().await?[0].event.payload::<u32>()?, 1);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
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

    /// Is told that the bus has what the last `next` returned (default: does nothing).
    async fn published(&mut self) {}
}
