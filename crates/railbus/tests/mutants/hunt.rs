//! The mutants, one list for all backends, and the hunt for them.

use super::{
    mutant::Mutant,
    wrapped::{Shared, Wrapped},
};
use futures_util::{StreamExt, stream};
use railbus::{
    backend::{Backend, Capability, Keyed, Release, Replay},
    backends::Opening,
    conformance::{CaseReport, Status, Suite, Target},
};
use std::{sync::Arc, time::Duration};

/// A mutant, the case that is there for it, and what that says; `claims` tells whether a backend
/// claims what is broken at all.
pub(crate) struct Hunted {
    mutant: Mutant,
    case: &'static str,
    says: &'static str,
    claims: fn(&Capability) -> bool,
}

impl Hunted {
    pub(crate) fn mutant(&self) -> Mutant {
        self.mutant
    }
}

const fn hunted(mutant: Mutant, case: &'static str, says: &'static str) -> Hunted {
    Hunted { mutant, case, says, claims: |_| true }
}

pub(crate) const HUNTED: &[Hunted] = &[
    hunted(Mutant::EarlyAck, "lease expiry", "0 of 2 events came"),
    hunted(Mutant::EarlyAck, "resend on error", "for try"),
    hunted(Mutant::ForgottenAck, "lease expiry", "after its ack had been confirmed"),
    hunted(Mutant::ForgottenAck, "two groups", "after its ack had been confirmed"),
    hunted(Mutant::LostAttempt, "lease expiry", "as attempt 1, but it is attempt 2"),
    hunted(Mutant::LostAttempt, "dead letter", "as attempt 1, but it is attempt 2"),
    Hunted {
        claims: |c| !matches!(c.ordering, railbus::backend::Ordering::None),
        ..hunted(Mutant::SwappedOrder, "concurrent subscribers", "but came after it")
    },
    hunted(Mutant::ForgottenDelay, "nack delay", "after it was to be held back for"),
    hunted(Mutant::DoubleLease, "exclusivity", "had it until|were held twice at a time"),
    hunted(Mutant::ForgottenExtension, "extension", "had it until"),
    hunted(Mutant::ForgottenTries, "extension", "tried three times more"),
    hunted(Mutant::IgnoredFence, "stale ack", "must be refused as stale"),
    Hunted {
        claims: |c| matches!(c.release, Release::Free),
        ..hunted(Mutant::BurntRelease, "extension", "released, and then attempt")
    },
    hunted(Mutant::TooMany, "batch receive", "a fetch of at most"),
    hunted(Mutant::LostOfBatch, "concurrent publishers", "waited"),
    hunted(Mutant::LostOfBatch, "batch publish", "came: waited"),
    hunted(Mutant::PublishedTwice, "two groups", "after its ack had been confirmed"),
    hunted(Mutant::LostOnReconnect, "continue after close", "waited"),
    hunted(Mutant::LostOnClose, "close", "what it held: waited"),
    hunted(Mutant::OpenForEver, "close", "after close must be a closed error"),
    hunted(Mutant::CollidingTopics, "odd topics", "events"),
    hunted(Mutant::BrokenPattern, "patterns", "[!"),
    hunted(Mutant::LostMetadata, "metadata", "`metadata` was"),
    hunted(Mutant::LostReason, "dead letter", "the letter is"),
    Hunted {
        claims: |c| c.keeps_history,
        ..hunted(Mutant::LostTries, "dead letter", "its history tells of")
    },
    hunted(Mutant::RedrivenTwice, "redrive", "one letter was redriven 2 times"),
    Hunted {
        claims: |c| !matches!(c.replay, Replay::None),
        ..hunted(Mutant::LostHistory, "late subscriber", "events came")
    },
    Hunted {
        claims: |c| !matches!(c.keyed, Keyed::None),
        ..hunted(Mutant::IgnoredKey, "order by key", "of its key a was not settled")
    },
];

/// How long a mutant is given to deliver what it never will.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many are hunted at once: they mostly wait.
const AT_ONCE: usize = 4;

/// Describes a store, behind a wrapper that is or is not sane.
fn target<F: Fn() -> Opening + Send + Sync + Clone + 'static>(open: F, mutant: Mutant) -> Target {
    let shared = Arc::<Shared>::default();
    Target::new(move || {
        let (opening, shared) = (open(), Arc::clone(&shared));
        Box::pin(async move {
            let inner = opening.await?;
            Ok(Arc::new(Wrapped::new(inner, mutant, shared)) as Arc<dyn Backend>)
        })
    })
}

/// Hunts every mutant of what the backend claims, each with the case that is there for it.
pub(crate) async fn all_are_caught<F>(open: F)
where
    F: Fn() -> Opening + Send + Sync + Clone + 'static,
{
    let backend = open().await.unwrap();
    let capability = backend.capability().clone();
    backend.close(PATIENCE).await.unwrap();
    let hunts = HUNTED.iter().filter(|hunted| (hunted.claims)(&capability)).map(|hunted| {
        let suite = Suite::new(target(open.clone(), hunted.mutant)).only([hunted.case]);
        async move {
            let certificate = suite.patience(PATIENCE).run().await.unwrap();
            let [report] = certificate.cases.as_slice() else { panic!("{certificate:?}") };
            let why = report.why.as_deref().unwrap_or_default();
            let caught = report.status == Status::Failed
                && hunted.says.split('|').any(|says| why.contains(says));
            (!caught).then(|| format!("{:?} by {report:?}", hunted.mutant))
        }
    });
    let hunts: Vec<_> = hunts.collect();
    let escaped: Vec<_> = stream::iter(hunts)
        .buffer_unordered(AT_ONCE)
        .filter_map(async |found| found)
        .collect()
        .await;
    assert!(escaped.is_empty(), "{} mutants escaped:\n{}", escaped.len(), escaped.join("\n"));
}

/// Runs the whole suite on the wrapper that changes nothing.
pub(crate) async fn the_sane_one<F>(open: F) -> Vec<CaseReport>
where
    F: Fn() -> Opening + Send + Sync + Clone + 'static,
{
    Suite::new(target(open, Mutant::Sane)).run().await.unwrap().cases
}
