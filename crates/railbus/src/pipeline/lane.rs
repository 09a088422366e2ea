//! A line of steps under way: its values, and what it came to so far.

use super::{
    log::Log,
    observe::{Tale, Watch},
    parts::{Limits, Plan},
    report::{Visit, Went},
    status::{CancelReason, StopReason},
};
use crate::{
    cancel::Cancel,
    error::Error,
    event::Event,
    payload::RawPayload,
    step::{Bindings, Exception, StepError, Store},
    task,
};
use std::{collections::HashMap, future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::time::Instant;

/// What a run is for.
#[derive(Clone, Copy)]
pub(super) struct Cause<'a> {
    pub(super) event: Option<&'a Event>,
    pub(super) attempt: u32,
}

/// What all lines of a run share.
#[derive(Clone, Copy)]
pub(super) struct Going<'a> {
    pub(super) plan: &'a Plan,
    pub(super) cause: Cause<'a>,
    pub(super) limits: &'a Limits,
    // Who is told of it.
    pub(super) watch: Option<Watch<'a>>,
    // Where the run is kept, if it is, and what goes before the names of its steps there.
    pub(super) log: Option<&'a Log>,
    pub(super) prefix: &'a str,
}

/// A line of steps under way: the main one, or that of a member of a group.
pub(super) struct Lane {
    pub(super) store: Arc<Store>,
    pub(super) trail: Vec<Visit>,
    // The worst that became of a step, the first one if there are several.
    pub(super) failed: Option<(Option<Arc<str>>, StepError)>,
    // The member of a group that the group failed by.
    pub(super) blamed: Option<Arc<str>>,
    pub(super) stopped: Option<(Arc<str>, StopReason)>,
    // Whether the step that stopped it says so itself.
    pub(super) is_told_to_stop: bool,
    pub(super) cancelled: Option<(Option<Arc<str>>, CancelReason)>,
    // The step it came from.
    pub(super) last: Option<usize>,
    // The step before the group that it is a member of.
    pub(super) before: Option<usize>,
    // What the next step's inputs are bound to, if not to what was found when it was built.
    pub(super) bound: Option<Arc<Bindings>>,
    // How often it came to each step that a jump led to.
    pub(super) arrivals: HashMap<usize, u32>,
    // When the step before ended, if this line did nothing since: looking at the clock costs as much
    // as a small step.
    pub(super) since: Option<Instant>,
}

/// Why what ran was cut off.
pub(super) enum Cut {
    /// The run is given up.
    Run(CancelReason),
    /// It took longer than the step may.
    Step(Duration),
    /// Nothing here can tell the time.
    NoClock(Error),
}

impl<'a> Going<'a> {
    /// Returns who is to be told of it, if someone listens.
    #[inline]
    pub(super) fn heard(&self, tale: Tale) -> Option<Watch<'a>> {
        self.watch.filter(|watch| watch.is_heard(tale))
    }
}

impl Lane {
    pub(super) fn new(store: Arc<Store>, room: usize) -> Self {
        Self {
            store,
            trail: Vec::with_capacity(room),
            failed: None,
            blamed: None,
            stopped: None,
            is_told_to_stop: false,
            cancelled: None,
            last: None,
            before: None,
            bound: None,
            arrivals: HashMap::new(),
            since: None,
        }
    }

    /// Keeps what went wrong, if it is worse than what did before.
    pub(super) fn fail(&mut self, step: Option<&Arc<str>>, error: StepError) {
        let worse = match &self.failed {
            None => true,
            Some((_, known)) => {
                matches!(known, StepError::Failure(_)) && matches!(error, StepError::Exception(_))
            }
        };
        if worse {
            self.failed = Some((step.cloned(), error));
        }
    }

    /// Returns the value of the step it came to last, if that left one.
    pub(super) fn value(&self, plan: &Plan) -> Option<&RawPayload> {
        self.store.value(&plan.nodes[self.last?].def.output)
    }

    /// Returns the steps between two visits of one, as a jump goes round.
    pub(super) fn cycle(&self, plan: &Plan, to: usize) -> String {
        let name = |visit: &Visit| &*plan.nodes[visit.node as usize].def.name;
        let before = self.trail.iter().rposition(|visit| visit.node as usize == to);
        let round = self.trail.iter().skip(before.unwrap_or(0)).map(name);
        let mut round: Vec<&str> = round.collect();
        round.push(&plan.nodes[to].def.name);
        round.join(" -> ")
    }
}

impl Limits {
    /// Tells why the run is given up, if it is.
    pub(super) fn over(&self) -> Option<CancelReason> {
        let asked = self.cancel.as_ref().is_some_and(Cancel::is_cancelled);
        let late = || self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match asked {
            true => Some(CancelReason::Asked),
            false => late().then_some(CancelReason::Timeout),
        }
    }

    /// Tells whether nothing bounds the run.
    pub(super) fn are_none(&self) -> bool {
        self.cancel.is_none() && self.deadline.is_none()
    }

    /// Returns limits that can be used up without these.
    pub(super) fn apart(&self) -> Self {
        let cancel = self.cancel.as_ref().map_or_else(Cancel::new, Cancel::child);
        Self { cancel: Some(cancel), deadline: self.deadline }
    }

    /// Returns limits that end earlier, if this does.
    pub(super) fn until(&self, limit: Option<Duration>) -> Self {
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let deadline = [self.deadline, end].into_iter().flatten().min();
        Self { cancel: self.cancel.clone(), deadline }
    }

    /// Awaits `work` until it ends, or is cut off: by these limits, or since it took longer than
    /// `limit`.
    pub(super) async fn bound<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = T>,
    ) -> Result<T, Cut> {
        if self.are_none() && limit.is_none() {
            return Ok(work.await);
        }
        self.bound_in_fact(limit, work).await
    }

    async fn bound_in_fact<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = T>,
    ) -> Result<T, Cut> {
        if let Some(reason) = self.over() {
            return Err(Cut::Run(reason));
        }
        let left = self.deadline.map(|deadline| deadline.duration_since(Instant::now()));
        let (wait, is_step) = match (limit, left) {
            (Some(limit), Some(left)) if limit < left => (Some(limit), true),
            (Some(limit), None) => (Some(limit), true),
            (_, left) => (left, false),
        };
        let late = match wait.map(|wait| task::sleep("timeout", wait)).transpose() {
            Ok(late) => late,
            Err(error) => return Err(Cut::NoClock(error)),
        };
        let mut work = pin!(work);
        let cancelled = async {
            match &self.cancel {
                Some(cancel) => cancel.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let late = async {
            match late {
                Some(late) => late.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = &mut work => Ok(done),
            () = cancelled => Err(Cut::Run(CancelReason::Asked)),
            () = late => Err(match limit.filter(|_| is_step) {
                Some(limit) => Cut::Step(limit),
                None => Cut::Run(CancelReason::Timeout),
            }),
        }
    }
}

impl Went {
    /// Returns the label of the branch that was taken.
    pub(super) fn label(&self) -> Option<&Arc<str>> {
        match self {
            Self::Branch(label) => Some(label),
            _ => None,
        }
    }
}

/// Says that a run was given up, as an exception.
pub(super) fn given_up(reason: CancelReason) -> StepError {
    let why = match reason {
        CancelReason::Asked => "the run was cancelled",
        CancelReason::Timeout => "the run took longer than it may",
    };
    StepError::Exception(Exception::new(reason.name(), why))
}
