//! When the stream's beginning is looked at: now and then, by whoever publishes.

use super::{
    keys::Keys,
    script::{Script, TRIM, number},
    settings::Trim,
};
use crate::backends::redis::link::Link;
use redis::Cmd;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Mutex as AsyncMutex;

/// After how many events of this process it is looked at, where their number is bounded: a node of
/// the stream has a hundred, and only whole ones are removed.
const EVENTS: u64 = 2048;

/// After how long it is looked at, if anything was published since.
const EVERY: Duration = Duration::from_secs(5);

/// How many events are removed at once: the server has its turn between two calls.
const AT_ONCE: u64 = 10_000;

/// When it was last looked at.
#[derive(Debug)]
pub(super) struct Trimming {
    what: Trim,
    state: Mutex<State>,
    // Held while it is looked at: who finds it held leaves it to who holds it.
    looking: AsyncMutex<()>,
}

#[derive(Debug)]
struct State {
    published: u64,
    last: Instant,
}

impl Trimming {
    pub(super) fn new(what: Trim) -> Self {
        let state = Mutex::new(State { published: 0, last: Instant::now() });
        Self { what, state, looking: AsyncMutex::default() }
    }

    /// Notes that so many are published; tells whether it is time to look.
    fn is_due(&self, published: usize) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.published += published as u64;
        let many = match self.what.max_len {
            Some(most) => state.published >= EVENTS.min(most.max(100)),
            None => state.published >= EVENTS * 16,
        };
        let due = many || state.last.elapsed() >= EVERY;
        if due {
            *state = State { published: 0, last: Instant::now() };
        }
        due
    }

    fn arguments(&self, command: &mut Cmd) {
        let most = self.what.max_len.map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX));
        let age = u64::try_from(self.what.retention.as_millis()).unwrap_or(u64::MAX);
        command.arg(most).arg(age.min(1 << 50)).arg(u8::from(self.what.hard)).arg(AT_ONCE);
    }

    /// Notes that so many are published, and looks in a task of its own if it is time to: nobody who
    /// publishes waits for it.
    pub(super) fn note(self: &Arc<Self>, published: usize, link: &Link, keys: &Arc<Keys>) {
        if self.is_due(published) {
            let (own, link, keys) = (Arc::clone(self), link.clone(), Arc::clone(keys));
            tokio::spawn(async move { own.run(&link, &keys).await });
        }
    }

    /// Looks, and removes what is not needed any more, until all of it is.
    async fn run(&self, link: &Link, keys: &Keys) {
        let Ok(_looking) = self.looking.try_lock() else { return };
        loop {
            let script: &Script = &TRIM;
            match script.run(link, keys, "trim", |c| self.arguments(c)).await {
                Ok(said) if number(&said) == Some(1) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, stream = keys.stream, "the stream could not be trimmed");
                    return;
                }
            }
        }
    }
}
