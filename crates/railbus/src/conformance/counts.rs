//! How much of everything a run does.

/// How much of everything a run does: more shows more, and takes longer.
///
/// # Examples
/// ```
/// use railbus::conformance::Counts;
///
/// assert!(Counts::short().events < Counts::stress().events);
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Events of one publisher or on one topic.
    pub events: usize,
    /// Publishers at once.
    pub publishers: usize,
    /// Members of a group, or listeners to a broadcast, at once.
    pub members: usize,
    /// Topics at once.
    pub topics: usize,
    /// Rounds of what depends on chance.
    pub rounds: usize,
    /// Processes killed.
    pub kills: usize,
}

impl Counts {
    /// Returns counts for a run of seconds.
    #[must_use]
    pub const fn short() -> Self {
        Self { events: 50, publishers: 4, members: 4, topics: 6, rounds: 3, kills: 2 }
    }

    /// Returns counts for a run of minutes.
    #[must_use]
    pub const fn stress() -> Self {
        Self { events: 500, publishers: 10, members: 20, topics: 20, rounds: 20, kills: 8 }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::short()
    }
}
