//! Cancelling: how work is told that nobody waits for it any more.

use tokio_util::sync::{CancellationToken, DropGuard};

/// Tells work that it is wanted no more. Work that looks at it can end early; nothing forces it to.
///
/// A clone is the same: cancelling one cancels all. Cancelled stays cancelled. The default was not
/// cancelled.
///
/// # Examples
/// ```
/// use railbus::cancel::Cancel;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let run = Cancel::new();
/// let step = run.child();
/// assert!(!step.is_cancelled());
/// run.cancel();
/// step.cancelled().await;
/// assert!(step.is_cancelled());
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(CancellationToken);

impl Cancel {
    /// Creates one that was not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels it, and all its children.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Tells whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is cancelled.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Creates one that is cancelled with this one, and can be cancelled alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Returns what cancels it when it is dropped, unless that is called off.
    pub(crate) fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.0.clone().drop_guard())
    }
}

/// Cancels when it is dropped.
#[derive(Debug)]
#[must_use = "it cancels when it is dropped, which is at once"]
pub(crate) struct CancelOnDrop(DropGuard);

impl CancelOnDrop {
    /// Calls it off.
    pub(crate) fn call_off(self) {
        self.0.disarm();
    }
}
