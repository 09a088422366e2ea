//! What a test puts around the handlers of a bus, and how it hears of what is published.

use crate::{event::Event, handler::AnyHandler};
use std::sync::{Arc, Mutex, PoisonError};

/// Whose handler it is.
pub(crate) struct Whose {
    /// The subscription's name; if it has none, its group's, or what it wants.
    pub(crate) name: String,
}

/// Puts something around a handler when its subscription opens.
pub(crate) type Around =
    Arc<dyn Fn(Whose, Box<dyn AnyHandler>) -> Box<dyn AnyHandler> + Send + Sync>;

/// Hears of what was published.
pub(crate) type Tap = Arc<dyn Fn(&Event) + Send + Sync>;

/// What watches a bus.
#[derive(Default)]
pub(super) struct Watched {
    around: Mutex<Vec<Around>>,
    taps: Mutex<Vec<Tap>>,
}

impl Watched {
    pub(super) fn add_around(&self, around: Around) {
        self.around.lock().unwrap_or_else(PoisonError::into_inner).push(around);
    }

    pub(super) fn add_tap(&self, tap: Tap) {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner).push(tap);
    }

    /// Returns the handler with all that is put around it, the first innermost.
    pub(super) fn around(
        &self,
        whose: impl Fn() -> Whose,
        handler: Box<dyn AnyHandler>,
    ) -> Box<dyn AnyHandler> {
        let around = self.around.lock().unwrap_or_else(PoisonError::into_inner).clone();
        around.iter().fold(handler, |handler, around| around(whose(), handler))
    }

    pub(super) fn published(&self, event: &Event) {
        let taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        taps.iter().for_each(|tap| tap(event));
    }
}
