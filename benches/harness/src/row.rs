//! A row: one piece of work, who does it, and what is aimed at.

use crate::{Result, Timed};

/// What is aimed at.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At most so many times as long as the base takes.
    Times(f64),
    /// At least so much of the base's rate.
    Rate(f64),
    /// At most so many nanoseconds: a figure of the machine the goals were set on.
    Nanos(f64),
    /// Nothing: the row is there to be compared with.
    Nothing,
}

/// Who does the work of a row.
pub struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    // How many arrivals one event makes.
    pub(crate) arrivals: u64,
    // How often the work is done in a turn, if that is not to be found out.
    pub(crate) times: Option<u64>,
    pub(crate) run: Box<dyn FnMut(u64) -> Result<Timed> + 'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// What the others are compared with.
    Base,
    /// What the goal is about.
    Subject,
    Peer,
}

impl<'a> Contender<'a> {
    /// Makes it what the others are compared with.
    #[must_use]
    pub fn as_base(self) -> Self {
        Self { role: Role::Base, ..self }
    }

    /// Sets how many arrivals one event makes (default 1).
    #[must_use]
    pub fn arrivals(mut self, arrivals: u64) -> Self {
        self.arrivals = arrivals;
        self
    }

    /// Sets how often the work is done in a turn (default: as often as fills it).
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// What the others are compared with: the shortest code with the same guarantee.
    pub fn base(name: &'static str, run: impl FnMut(u64) -> Result<Timed> + 'a) -> Self {
        Self::new(name, Role::Base, run)
    }

    /// What the goal is about.
    pub fn subject(name: &'static str, run: impl FnMut(u64) -> Result<Timed> + 'a) -> Self {
        Self::new(name, Role::Subject, run)
    }

    /// Somebody else who does it.
    pub fn peer(name: &'static str, run: impl FnMut(u64) -> Result<Timed> + 'a) -> Self {
        Self::new(name, Role::Peer, run)
    }

    fn new(name: &'static str, role: Role, run: impl FnMut(u64) -> Result<Timed> + 'a) -> Self {
        Self { name, role, arrivals: 1, times: None, run: Box::new(run) }
    }
}

/// What a contender came to, one number a round.
#[derive(Clone, Debug)]
pub struct Samples {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) nanos: Vec<f64>,
    // The processor's, if it was looked at.
    pub(crate) cpu: Vec<f64>,
}

impl Samples {
    /// What the others are compared with, in nanoseconds.
    #[must_use]
    pub fn base(name: &'static str, nanos: Vec<f64>) -> Self {
        Self { name, role: Role::Base, nanos, cpu: Vec::new() }
    }

    /// What the goal is about, in nanoseconds.
    #[must_use]
    pub fn subject(name: &'static str, nanos: Vec<f64>) -> Self {
        Self { role: Role::Subject, ..Self::base(name, nanos) }
    }

    /// Somebody else who does it, in nanoseconds.
    #[must_use]
    pub fn peer(name: &'static str, nanos: Vec<f64>) -> Self {
        Self { role: Role::Peer, ..Self::base(name, nanos) }
    }
}

/// One piece of work, and who does it.
pub struct Row<'a> {
    pub(crate) id: &'static str,
    pub(crate) work: &'static str,
    pub(crate) goal: Goal,
    pub(crate) contenders: Vec<Contender<'a>>,
    pub(crate) samples: Vec<Samples>,
}

impl<'a> Row<'a> {
    /// Creates a row without contenders.
    #[must_use]
    pub fn new(id: &'static str, work: &'static str, goal: Goal) -> Self {
        Self { id, work, goal, contenders: Vec::new(), samples: Vec::new() }
    }

    /// Adds what was measured elsewhere, in rounds as well.
    #[must_use]
    pub fn told(mut self, samples: Samples) -> Self {
        self.samples.push(samples);
        self
    }

    /// Adds a contender: they take turns in this order.
    #[must_use]
    pub fn with(mut self, contender: Contender<'a>) -> Self {
        self.contenders.push(contender);
        self
    }
}
