//! What may be wrong with a backend.

/// What is wrong with the backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mutant {
    Sane,
    /// Acks at fetch, before any handler ran.
    EarlyAck,
    /// Says that it acked, and doesn't.
    ForgottenAck,
    /// Says that each delivery is the first.
    LostAttempt,
    /// Gives what it fetched the other way round.
    SwappedOrder,
    /// Gives back at once what was to be held back.
    ForgottenDelay,
    /// Gives to one member what another one holds.
    DoubleLease,
    /// Says that it extended a lease, and doesn't.
    ForgottenExtension,
    /// Forgets the tries that were made in place.
    ForgottenTries,
    /// Takes settlements of leases that were lost for good.
    IgnoredFence,
    /// Counts what was given back as an attempt.
    BurntRelease,
    /// Gives more than was asked for.
    TooMany,
    /// Confirms the first event of a batch, and does not publish it.
    LostOfBatch,
    /// Publishes twice.
    PublishedTwice,
    /// Throws away what waits when a member comes back.
    LostOnReconnect,
    /// Acks what was not settled when it closes.
    LostOnClose,
    /// Goes on after close.
    OpenForEver,
    /// Takes topics that differ in punctuation for one.
    CollidingTopics,
    /// Takes `[!a]` for `[^a]`, which is no negation.
    BrokenPattern,
    /// Lets events go without their metadata.
    LostMetadata,
    /// Keeps dead letters without their reason.
    LostReason,
    /// Keeps dead letters without their history.
    LostTries,
    /// Says that it redrove what was redriven before.
    RedrivenTwice,
    /// Starts every group with what comes then.
    LostHistory,
    /// Doesn't keep the order of keys.
    IgnoredKey,
}
