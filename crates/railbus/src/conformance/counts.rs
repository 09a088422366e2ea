//! How much of everything a run does.

use serde::Serialize;

/// How much of everything a run does: more shows more, and takes longer.
///
/// # Examples
/// ```
/// use railbus::conformance::Counts;
///
/// let (short, stress) = (Counts::short(), Counts::stress());
/// assert!(short.events < stress.events && short.published < stress.published);
/// assert_eq!((stress.publishers, stress.published, stress.reopened), (20, 10_000, 200));
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events of one publisher or on one topic, where nothing else is said.
    pub events: usize,
    /// Publishers at once.
    pub publishers: usize,
    /// Events of each of these publishers.
    pub published: usize,
    /// Members of a group, or listeners to a broadcast, where nothing else is said.
    pub members: usize,
    /// Subscribers at once.
    pub subscribers: usize,
    /// Events that these subscribers, or members in competition, share.
    pub shared: usize,
    /// Topics at once.
    pub topics: usize,
    /// Topics in all, where there are many.
    pub many_topics: usize,
    /// Rounds of what depends on chance.
    pub rounds: usize,
    /// Events that are given back before the rest is handled.
    pub nacks: usize,
    /// Processes killed.
    pub kills: usize,
    /// How often a bus is opened and closed.
    pub reopened: usize,
    /// Events published while the server or the way to it fails.
    pub faulted: usize,
}

impl Counts {
    /// Returns counts for a run of seconds.
    #[must_use]
    pub const fn short() -> Self {
        Self {
            events: 50,
            publishers: 5,
            published: 200,
            members: 4,
            subscribers: 20,
            shared: 500,
            topics: 20,
            many_topics: 200,
            rounds: 3,
            nacks: 200,
            kills: 2,
            reopened: 30,
            faulted: 800,
        }
    }

    /// Returns counts for a run of minutes.
    #[must_use]
    pub const fn stress() -> Self {
        Self {
            events: 500,
            publishers: 20,
            published: 10_000,
            members: 20,
            subscribers: 50,
            shared: 5_000,
            topics: 20,
            many_topics: 1_000,
            rounds: 20,
            nacks: 500,
            kills: 8,
            reopened: 200,
            faulted: 10_000,
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::short()
    }
}
