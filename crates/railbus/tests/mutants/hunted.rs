//! The mutants that are hunted, each with the case that is there for it.

use super::mutant::Mutant;
use railbus::backend::{Broadcast, Capability, Keyed, Ordering, Release, Replay};

/// What a mutant can only be told by where it is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Needs {
    Nothing,
    /// A server that can be cut off.
    Server,
    /// A server that asks for a password.
    Password,
    /// A way to store bytes that are no event.
    Bytes,
}

/// A mutant, the case that is there for it, and what that says, of which any will do; `claims` tells
/// whether a backend claims what is broken at all.
#[derive(Clone, Copy)]
pub(crate) struct Hunted {
    pub(crate) mutant: Mutant,
    pub(crate) case: &'static str,
    pub(crate) says: &'static str,
    pub(crate) needs: Needs,
    pub(crate) claims: fn(&Capability) -> bool,
}

impl Hunted {
    const fn only(self, claims: fn(&Capability) -> bool) -> Self {
        Self { claims, ..self }
    }

    const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }
}

/// One that is hunted on what keeps groups.
const fn kept(mutant: Mutant, case: &'static str, says: &'static str) -> Hunted {
    Hunted { mutant, case, says, needs: Needs::Nothing, claims: |c| c.groups }
}

/// One that is hunted on what brings broadcasts from elsewhere.
const fn live(mutant: Mutant, case: &'static str, says: &'static str) -> Hunted {
    let claims: fn(&Capability) -> bool = |c| c.broadcast == Broadcast::Live;
    Hunted { mutant, case, says, needs: Needs::Nothing, claims }
}

/// One that is hunted on what keeps runs.
const fn runs(mutant: Mutant, says: &'static str) -> Hunted {
    Hunted { mutant, case: "journal", says, needs: Needs::Nothing, claims: |c| c.journal }
}

/// One that is hunted everywhere.
const fn any(mutant: Mutant, case: &'static str, says: &'static str) -> Hunted {
    Hunted { mutant, case, says, needs: Needs::Nothing, claims: |_| true }
}

/// The largest payload that the suite tries one byte more than.
const TRIED_MAX: usize = 64 << 20;

pub(crate) const HUNTED: &[Hunted] = &[
    kept(Mutant::EarlyAck, "lease expiry", "0 of 2 events came"),
    kept(Mutant::EarlyAck, "resend on error", "for try"),
    kept(Mutant::ForgottenAck, "lease expiry", "after its ack had been confirmed"),
    kept(Mutant::ForgottenAck, "two groups", "after its ack had been confirmed"),
    kept(Mutant::LostAttempt, "lease expiry", "as attempt 1, but it is attempt 2"),
    kept(Mutant::LostAttempt, "dead letter", "as attempt 1, but it is attempt 2"),
    kept(Mutant::SwappedOrder, "batch publish", "but came after it")
        .only(|c| c.groups && !matches!(c.ordering, Ordering::None)),
    kept(Mutant::ForgottenDelay, "nack delay", "after it was to be held back for"),
    kept(Mutant::DoubleLease, "exclusivity", "had it until|were held twice at a time"),
    kept(Mutant::ForgottenExtension, "extension", "had it until"),
    kept(Mutant::ForgottenTries, "extension", "tried three times more"),
    kept(Mutant::IgnoredFence, "stale ack", "must be refused as stale"),
    kept(Mutant::BurntRelease, "extension", "released, and then attempt")
        .only(|c| c.groups && matches!(c.release, Release::Free)),
    kept(Mutant::TooMany, "batch receive", "a fetch of at most"),
    any(Mutant::LostOfBatch, "batch publish", "came: waited"),
    kept(Mutant::LostOfBatch, "concurrent publishers", "waited"),
    kept(Mutant::PublishedTwice, "two groups", "after its ack had been confirmed"),
    kept(Mutant::LostOnReconnect, "continue after close", "waited"),
    kept(Mutant::LostOnClose, "close", "what it held: waited"),
    any(Mutant::OpenForEver, "close", "after close must be a closed error"),
    kept(Mutant::CollidingTopics, "odd topics", "events"),
    kept(Mutant::BrokenPattern, "patterns", "[!"),
    any(Mutant::LostMetadata, "metadata", "`metadata` was"),
    kept(Mutant::LostReason, "dead letter", "the letter is"),
    kept(Mutant::LostTries, "dead letter", "its history tells of")
        .only(|c| c.groups && c.keeps_history),
    kept(Mutant::RedrivenTwice, "redrive", "one letter was redriven 2 times"),
    kept(Mutant::LostHistory, "late subscriber", "events came|not even once")
        .only(|c| c.groups && !matches!(c.replay, Replay::None)),
    kept(Mutant::OldestForNewest, "late subscriber", "was invented|before it too")
        .only(|c| c.groups && !matches!(c.replay, Replay::None)),
    kept(Mutant::OldestForTime, "late subscriber", "before it too")
        .only(|c| c.groups && matches!(c.replay, Replay::Time)),
    kept(Mutant::ReplaysAll, "late subscriber", "the replay says 7")
        .only(|c| c.groups && matches!(c.replay, Replay::Time)),
    kept(Mutant::SilentReplay, "late subscriber", "the replay says 0")
        .only(|c| c.groups && matches!(c.replay, Replay::Time)),
    kept(Mutant::IgnoredKey, "order by key", "of its key a was not settled")
        .only(|c| !matches!(c.keyed, Keyed::None)),
    kept(Mutant::IgnoredInterest, "topics isolated", "events were lost"),
    kept(Mutant::AlikeInBatch, "partial settle", "events came"),
    kept(Mutant::EarlyAck, "gathered batches", "each item: waited"),
    kept(Mutant::ForgottenFinished, "outcomes", "one was through")
        .only(|c| c.groups && c.keeps_finished),
    kept(Mutant::ForgottenPosition, "positions", "the input was read to Some")
        .only(|c| c.positions),
    kept(Mutant::Unwithdrawn, "withdrawal", "was withdrawn, and came|must say false")
        .only(|c| c.withdraws),
    kept(Mutant::WithdrawnTwice, "withdrawal", "must say false, and said true")
        .only(|c| c.withdraws),
    kept(Mutant::ForgottenPublishDelay, "delayed events", "was to come after")
        .only(|c| c.groups && c.publish_delay_max.is_some()),
    kept(Mutant::LostOnce, "concurrent publishers", "waited"),
    kept(Mutant::PublisherFails, "concurrent publishers", "too many connections"),
    // Elsewhere those who are through are known by their names as well.
    kept(Mutant::ForgottenOnly, "redrive", "is to be told")
        .only(|c| c.dead_letters && c.broadcast == Broadcast::Inline),
    kept(Mutant::PurgedBack, "redrive", "after a purge|nothing else is to be told")
        .only(|c| c.dead_letters),
    kept(Mutant::PrunesAnything, "keeper", "must be a not-found error"),
    kept(Mutant::ReplayTakes, "keeper", "came to another member")
        .only(|c| c.groups && matches!(c.replay, Replay::Time)),
    kept(Mutant::UnfilteredLetters, "keeper", "gave [").only(|c| c.dead_letters),
    any(Mutant::HangingPublish, "publish-subscribe", "for a publish"),
    live(Mutant::HangingSubscribe, "publish-subscribe", "nothing happened for"),
    any(Mutant::LateClose, "close", "for a close with a deadline"),
    kept(Mutant::LateFetch, "delayed events", "late, of|for a broadcast")
        .only(|c| c.groups && c.publish_delay_max.is_some()),
    kept(Mutant::TooLargeStored, "payload sizes", "was invented")
        .only(|c| c.groups && c.payload_max <= TRIED_MAX),
    live(Mutant::BusyForEver, "idle", "for the bus to be idle"),
    kept(Mutant::IdleAtOnce, "idle", "idle while a handler runs"),
    live(Mutant::SilentGap, "reconnect", "for a gap to be told")
        .needs(Needs::Server)
        // Redis connects again before anything is missed.
        .only(|c| c.broadcast == Broadcast::Live && c.name == "postgres"),
    // On NATS a gap is told once, to whoever has waited longer for it than the mutant.
    live(Mutant::DeafAfterCut, "reset", "broadcasts to be heard again")
        .needs(Needs::Server)
        .only(|c| c.broadcast == Broadcast::Live && c.name != "nats"),
    kept(Mutant::LyingNow, "resend on error", "for try").only(|c| c.broadcast == Broadcast::Inline),
    any(Mutant::BadConfirmed, "batch publish", "whose third event has no type"),
    kept(Mutant::LostPoison, "poison", "bytes that are no event").needs(Needs::Bytes),
    kept(Mutant::FailsByPoison, "poison", "bytes that are no event").needs(Needs::Bytes),
    kept(Mutant::ConfirmedUnsent, "reset", "confirmed events to be handled").needs(Needs::Server),
    any(Mutant::CutPayload, "publish-subscribe", "`payload` was"),
    any(Mutant::NewId, "publish-subscribe", "`id` was|was invented"),
    any(Mutant::LostCause, "context", "of its cause"),
    any(Mutant::BlurredChannel, "odd topics", "a.b"),
    any(Mutant::TooLargeConfirmed, "payload sizes", "more than is claimed was confirmed")
        .only(|c| c.payload_max <= TRIED_MAX),
    any(Mutant::VagueRefusal, "wrong password", "must be a denied error").needs(Needs::Password),
    live(Mutant::HeardTwice, "topics at once", "broadcast: |heard twice|were lost"),
    live(Mutant::HeardTwice, "concurrent subscribers", "broadcast: "),
    live(Mutant::LeftOpen, "leaks", "opened and closed|for close"),
    live(Mutant::SwappedBroadcasts, "concurrent subscribers", "but came after it"),
    live(Mutant::LostSpill, "publish-subscribe", "for a broadcast"),
    live(Mutant::DeafAfterCut, "reconnect", "publishing and receiving to go on")
        .needs(Needs::Server),
    any(Mutant::GroupsForAll, "what is not claimed", "is not claimed, and yet was given")
        .only(|c| !c.groups),
    runs(Mutant::StaleConfirmed, "a record under a lease that was lost must be refused as Stale"),
    runs(Mutant::StaleRecorded, "a record under a lease that was lost must be refused as Stale"),
    runs(Mutant::StaleRelease, "who lost a run changed it"),
    runs(Mutant::LostRecord, "recorded was [charge 1, ship/each#3 1, charge 2], and kept is"),
    runs(Mutant::LostValues, "recorded was [charge 1, ship/each#3 1, charge 2], and kept is"),
    runs(Mutant::PlaceTwice, "another record for a recorded place must be refused"),
    runs(Mutant::BegunTwice, "a run was begun by"),
    runs(Mutant::TakenTwice, "a run was taken over"),
    runs(Mutant::TakenEarly, "the run's lease was lost|a run was taken over"),
    runs(Mutant::ForgottenRenewal, "after its lease of"),
    runs(Mutant::ForgottenRelease, "a run of another graph is elsewhere"),
    runs(Mutant::UnheardCancel, "that its end is asked for, a record is told GoOn"),
    runs(Mutant::BegunAnew, "a run that has ended was begun, and is new"),
    runs(Mutant::UnfilteredRuns, "states: [Left]"),
    runs(Mutant::UnprunedRuns, "limit: None } gave ["),
];
