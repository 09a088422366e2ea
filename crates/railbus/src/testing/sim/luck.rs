//! What a seed decides.

use crate::pretend::mixed;
use std::ops::Range;

/// What may befall a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Publishing fails, and nothing was stored.
    PublishFails,
    /// Publishing fails, though it was stored.
    AnswerLost,
    /// What was published is there twice.
    PublishedTwice,
    /// The connection breaks while fetching.
    FetchFails,
    /// What was fetched did not arrive.
    FetchLost,
    /// What was handled is delivered again.
    DeliveredAgain,
    /// That it was handled is forgotten.
    SettleForgotten,
    /// A lease is not renewed, though the program is told that it was.
    LeaseLost,
    /// An answer takes its time.
    Slow,
    /// The process dies.
    Crash,
}

/// All of them, each with what the history says.
pub(super) const FAULTS: [(Fault, &str); 10] = [
    (Fault::PublishFails, "publishing fails"),
    (Fault::AnswerLost, "the answer to publishing is lost"),
    (Fault::PublishedTwice, "it is published twice"),
    (Fault::FetchFails, "the connection breaks while fetching"),
    (Fault::FetchLost, "what is fetched does not arrive"),
    (Fault::DeliveredAgain, "what was handled is delivered again"),
    (Fault::SettleForgotten, "that it was handled is forgotten"),
    (Fault::LeaseLost, "a lease is not renewed"),
    (Fault::Slow, "an answer takes its time"),
    (Fault::Crash, "the process dies"),
];

/// How likely a fault may be, in a thousand; which it is for this seed is drawn. Most seeds have only
/// some of the faults, so that those are not hidden behind others. Source: Groce et al., "Swarm
/// Testing".
const ODDS: [u64; 4] = [0, 0, 40, 200];

/// Chance, as a seed has it.
#[derive(Debug)]
pub(super) struct Luck {
    state: u64,
    odds: [u64; FAULTS.len()],
    /// How many turns in a hundred are passed.
    jostling: u64,
    // How many faults there may be, and were.
    most: usize,
    befallen: usize,
    // How many more of them may cost a try.
    tries: usize,
    pub(super) calm: bool,
}

impl Luck {
    pub(super) fn new(seed: u64, most: usize, tries: usize, allowed: &[Fault]) -> Self {
        let mut luck = Self {
            state: mixed(seed ^ 0x51ed_2701),
            odds: [0; FAULTS.len()],
            jostling: 0,
            most,
            befallen: 0,
            tries,
            calm: false,
        };
        luck.odds = FAULTS.map(|(fault, _)| {
            // Drawn all the same, so that what is not allowed changes nothing else.
            let odds = ODDS[luck.index(ODDS.len())];
            if allowed.contains(&fault) { odds } else { 0 }
        });
        luck.jostling = [0, 20, 50, 80][luck.index(4)];
        luck
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.state)
    }

    fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).unwrap_or(1).max(1);
        usize::try_from(self.draw() % length).unwrap_or(0)
    }

    /// Returns a number of a range; its start if it is empty.
    pub(super) fn pick(&mut self, range: Range<u64>) -> u64 {
        match range.end.checked_sub(range.start) {
            Some(length @ 1..) => range.start + self.draw() % length,
            _ => range.start,
        }
    }

    /// Tells whether a fault befalls now, which may cost events a try.
    pub(super) fn befalls(&mut self, fault: Fault, costs: bool) -> bool {
        let at = FAULTS.iter().position(|(known, _)| *known == fault).unwrap_or(0);
        let hit = self.draw() % 1000 < self.odds[at];
        let spared = costs && self.tries == 0;
        if !hit || spared || self.calm || self.befallen >= self.most {
            return false;
        }
        self.tries -= usize::from(costs);
        self.befallen += 1;
        true
    }

    /// Returns how many faults befell so far.
    pub(super) fn befallen(&self) -> usize {
        self.befallen
    }

    /// Tells whether somebody else goes first.
    pub(super) fn passes(&mut self) -> bool {
        self.draw() % 100 < self.jostling
    }

    /// Returns for how many milliseconds work is put off, which it rarely is.
    pub(super) fn nap(&mut self) -> Option<u64> {
        let (drawn, jostling) = (self.draw(), self.jostling > 0 && !self.calm);
        match drawn % 64 {
            0 if jostling => Some(1 + (drawn >> 8) % 40_000),
            1..=6 if jostling => Some(1 + (drawn >> 8) % 50),
            _ => None,
        }
    }
}
