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
    /// Hears no broadcasts once its connection was cut.
    DeafAfterCut,
    /// Hands on each broadcast behind the one after it.
    SwappedBroadcasts,
    /// Hands on each broadcast twice.
    HeardTwice,
    /// Loses broadcasts that are larger than a notification.
    LostSpill,
    /// Cuts long payloads off.
    CutPayload,
    /// Gives events ids of its own.
    NewId,
    /// Lets events go without what caused them.
    LostCause,
    /// Writes topics as names of channels that know no dots.
    BlurredChannel,
    /// Confirms what is too large, and does not publish it.
    TooLargeConfirmed,
    /// Confirms what is no event, and does not publish it.
    BadConfirmed,
    /// Confirms what its server did not.
    ConfirmedUnsent,
    /// Takes whoever asks for a group for a listener.
    GroupsForAll,
    /// Keeps its connections when it is closed.
    LeftOpen,
    /// Tries again and again with a wrong password.
    VagueRefusal,
    /// Publishes at once what was to be held back.
    ForgottenPublishDelay,
    /// Gives a group all there is, whatever it wants.
    IgnoredInterest,
    /// Starts every group with all there was.
    OldestForNewest,
    /// Starts a group with all there was, whatever time it asks for.
    OldestForTime,
    /// Replays all there was, whatever time is asked for.
    ReplaysAll,
    /// Is sane, and has a clock that is an hour ahead.
    ClockAhead,
    /// Says of a replay that nothing comes again.
    SilentReplay,
    /// Throws away bytes that are no event.
    LostPoison,
    /// Fails where there are bytes that are no event.
    FailsByPoison,
    /// Settles all of a batch as the first of it.
    AlikeInBatch,
    /// Says that it withdrew an event, and doesn't.
    Unwithdrawn,
    /// Says that it withdrew what was not there to be withdrawn.
    WithdrawnTwice,
    /// Forgets which subscriptions of a group are through with an event.
    ForgottenFinished,
    /// Forgets how far inputs were read.
    ForgottenPosition,
    /// Is sane, and matches no patterns.
    NoPatterns,
    /// Is sane, and extends no leases.
    NoExtension,
    /// Is sane, and gives events in any order.
    NoOrder,
    /// Takes its time over a batch once, and loses one event of it.
    LostOnce,
    /// Hands a dead letter back to every subscription of its group.
    ForgottenOnly,
    /// Hands back what is purged.
    PurgedBack,
    /// Says that it forgot groups that were not there.
    PrunesAnything,
    /// Takes what is held from who holds it, to replay it.
    ReplayTakes,
    /// Gives all letters of a group, whatever is asked for.
    UnfilteredLetters,
    /// Never returns from a publish.
    HangingPublish,
    /// Never returns from a subscribe.
    HangingSubscribe,
    /// Closes when it likes, whatever the deadline.
    LateClose,
    /// Hands everything out late.
    LateFetch,
    /// Refuses what is too large, and keeps a part of it.
    TooLargeStored,
    /// Confirms some of what many publish, and then no more.
    PublisherFails,
    /// Never says that listeners have heard all.
    BusyForEver,
    /// Says at once that groups have settled all.
    IdleAtOnce,
    /// Never says that broadcasts were missed.
    SilentGap,
    /// Confirms without a wait what it does not publish.
    LyingNow,
    /// Confirms what comes from a holder that lost its run, and does not write it.
    StaleConfirmed,
    /// Writes what comes from a holder that lost its run.
    StaleRecorded,
    /// Lets a holder that lost its run give it back.
    StaleRelease,
    /// Confirms the last record of a batch, and does not keep it.
    LostRecord,
    /// Keeps records without their values.
    LostValues,
    /// Takes another record for a place, and forgets it.
    PlaceTwice,
    /// Lets two begin a run.
    BegunTwice,
    /// Lets two take over a run.
    TakenTwice,
    /// Lets a run be taken over before its lease is over.
    TakenEarly,
    /// Says that it renewed a run's lease, and doesn't.
    ForgottenRenewal,
    /// Says that it gave back a run's lease, and doesn't.
    ForgottenRelease,
    /// Tells nobody that the end of a run is asked for.
    UnheardCancel,
    /// Begins a run anew that has ended.
    BegunAnew,
    /// Lists runs in whatever state.
    UnfilteredRuns,
    /// Says that it pruned runs, and doesn't.
    UnprunedRuns,
}
