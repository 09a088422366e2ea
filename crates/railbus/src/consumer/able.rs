//! What a backend can do with a lease, and what is done where it can't.

use crate::{
    backend::{Capability, Release, Verdict},
    retry::Retry,
};
use std::time::Duration;

/// How long an event that this member can't handle is left to the others.
const UNROUTED: Duration = Duration::from_millis(200);

/// How long at most, where that grows.
const UNROUTED_MAX: Duration = Duration::from_secs(30);

/// What the engine may ask of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Able {
    lease: Duration,
    extends: bool,
    delay_max: Duration,
    counts: bool,
    release: Release,
}

impl Able {
    pub(crate) fn of(capability: &Capability, lease: Duration) -> Self {
        Self {
            lease,
            extends: capability.extends,
            delay_max: capability.delay_max.unwrap_or_default(),
            counts: capability.counts_attempts,
            release: capability.release,
        }
    }

    /// Returns how long an event is a member's.
    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// Tells whether leases can be kept.
    pub(super) fn extends(&self) -> bool {
        self.extends
    }

    /// Tells whether a try after this wait is made where the one before was, with the lease kept.
    pub(super) fn is_in_place(&self, wait: Duration) -> bool {
        // Where deliveries are not counted, tries are only as long as there is one.
        self.extends && (wait < self.lease / 3 || !self.counts)
    }

    /// Returns how long the backend holds an event back that should wait so long.
    pub(super) fn hold(&self, wait: Duration) -> Duration {
        wait.min(self.delay_max)
    }

    /// Returns how long an event may be worked on since it was fetched: as long as nobody else can have
    /// it meanwhile, with some time to say so. None: as long as handlers like.
    pub(super) fn most(&self) -> Option<Duration> {
        (!self.extends).then(|| self.lease - self.lease / 10)
    }

    /// Tells whether what others may have after so long need not be begun any more.
    pub(super) fn is_late(&self, left: Duration) -> bool {
        left < self.lease / 3
    }

    /// Returns how an event that nobody here wants is left to others, after which try.
    pub(super) fn leave(&self, attempt: u32) -> Leaving {
        let counts = self.release == Release::CountsAsAttempt;
        let wait = match counts {
            // Each time costs it a try, so it is offered less and less often.
            true => UNROUTED.saturating_mul(1 << attempt.saturating_sub(1).min(16)),
            false => UNROUTED,
        };
        let wait = wait.min(UNROUTED_MAX);
        let delay = self.hold(wait);
        let here = if delay < wait { (wait - delay).min(self.lease / 3) } else { Duration::ZERO };
        match counts {
            true => Leaving { verdict: Verdict::Nack { delay }, here },
            false => Leaving { verdict: Verdict::Release { delay }, here },
        }
    }

    /// Returns what the backend can't do of the tries that a policy asks for, if anything.
    pub(crate) fn lacks(&self, retry: &Retry) -> Option<Lack> {
        let longest = retry.longest_wait()?;
        if self.is_in_place(longest) {
            None
        } else if !self.counts {
            Some(Lack::Counting)
        } else {
            (longest > self.delay_max).then_some(Lack::Delay(self.delay_max))
        }
    }
}

/// How an event is left to other members.
pub(super) struct Leaving {
    pub(super) verdict: Verdict,
    /// How long it is kept here before, where the backend can't hold it back itself: at once, this member
    /// would mostly get it again.
    pub(super) here: Duration,
}

/// What a backend can't do that a policy asks for: why its subscription is refused.
pub(crate) enum Lack {
    /// It counts no tries beyond one delivery.
    Counting,
    /// It holds events back for so long at most.
    Delay(Duration),
}
