//! What is told while it can't be known whether an app is idle.

use crate::error::Error;
use std::time::Duration;
use tokio::time::Instant;

/// For how long it is not known before it is told, and how often then: a run that waits for ever must not
/// do so in silence.
const TELL_AFTER: Duration = Duration::from_secs(5);
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Since when it is not known, and when that is told next.
#[derive(Debug, Default)]
pub(super) struct Doubt(Option<(Instant, Instant)>);

impl Doubt {
    /// Notes why it could not be known once more, and tells it when it is time.
    pub(super) fn goes_on(&mut self, error: &Error) {
        let now = Instant::now();
        let (since, next) = self.0.get_or_insert_with(|| (now, now + TELL_AFTER));
        if now < *next {
            tracing::debug!(%error, "whether all is settled is asked again");
            return;
        }
        *next = now + TELL_EVERY;
        let waited = now - *since;
        tracing::warn!(?waited, %error, "whether all is settled is not known yet; asking again");
    }

    /// Notes that it is known again.
    pub(super) fn ends(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };
    use tracing_subscriber::{Layer, layer, prelude::*};

    /// Counts warnings.
    #[derive(Clone, Default)]
    struct Warned(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> Layer<S> for Warned {
        fn on_event(&self, line: &tracing::Event<'_>, _: layer::Context<'_, S>) {
            if *line.metadata().level() == tracing::Level::WARN {
                self.0.fetch_add(1, SeqCst);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_without_end_is_told_soon_and_then_once_in_a_while() {
        let (warned, mut doubt) = (Warned::default(), Doubt::default());
        let _logged =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(warned.clone()));
        let error = Error::new(ErrorKind::Timeout, "accounts", "too large");
        for (asked, told) in [(49, 0), (2, 1), (598, 1), (2, 2), (600, 3)] {
            for _ in 0..asked {
                doubt.goes_on(&error);
                tokio::time::advance(Duration::from_millis(100)).await;
            }
            assert_eq!(warned.0.load(SeqCst), told, "after {asked} more");
        }
        doubt.ends();
        doubt.goes_on(&error);
        assert_eq!(warned.0.load(SeqCst), 3, "it is another wait");
    }
}
