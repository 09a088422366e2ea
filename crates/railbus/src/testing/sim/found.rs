//! What simulations came to.

use std::fmt;

/// How many lines of a history are shown.
const SHOWN: usize = 60;

/// A simulation that passed with each of its seeds.
#[derive(Clone, Debug)]
pub struct Passed {
    /// How many seeds there were.
    pub seeds: u64,
    /// How many faults there were in all.
    pub faults: usize,
    /// What happened with the last seed.
    pub history: Vec<String>,
}

/// A simulation that failed, with the fewest faults that make it fail with this seed.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// How many faults it takes; those that the seed has after them are left out.
    pub faults: usize,
    /// Why it failed.
    pub message: String,
    /// What happened.
    pub history: Vec<String>,
    /// Whether it happened once more when it was run once more.
    pub repeats: bool,
}

impl Found {
    /// Returns what `RAILBUS_SEED` must be for it to happen again.
    #[must_use]
    pub fn replay(&self) -> String {
        format!("{}/{}", self.seed, self.faults)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, faults, message, history, .. } = self;
        writeln!(f, "the simulation failed with seed {seed}, after {faults} faults: {message}")?;
        let left_out = history.len().saturating_sub(SHOWN);
        writeln!(f, "what happened{}:", if left_out > 0 { ", at last" } else { "" })?;
        for line in &history[left_out..] {
            writeln!(f, "{line}")?;
        }
        if !self.repeats {
            writeln!(
                f,
                "with the same seed it went otherwise the next time: something has chance, a clock \
                 or threads of its own, such as a select! that is not `biased`"
            )?;
        }
        write!(f, "replay: RAILBUS_SEED={} cargo test", self.replay())
    }
}

impl std::error::Error for Found {}
