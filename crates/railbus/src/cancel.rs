//! Giving up what runs: a token that whoever runs and whoever waits both hold.

use std::fmt;
use tokio_util::sync::CancellationToken;

/// Gives up what runs: a clone given to a run can be used from anywhere, any time.
///
/// # Examples
/// ```
/// use railbus::Cancel;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let cancel = Cancel::new();
/// let part = cancel.child();
/// part.cancel();
/// assert!(part.is_cancelled() && !cancel.is_cancelled());
/// cancel.cancel();
/// cancel.cancelled().await;
/// assert!(cancel.child().is_cancelled());
/// # });
/// ```
#[derive(Clone, Default)]
pub struct Cancel(CancellationToken);

impl Cancel {
    /// Creates one that nobody has used yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives up whatever was given this one or a child of it, for good. Calling it again does
    /// nothing.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Tells whether it was used.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is used; needs no runtime.
    ///
    /// # Cancel safety
    /// Waiting again misses nothing.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Creates one that is used with this one, or by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_cancelled() { "Cancel(used)" } else { "Cancel" })
    }
}
