//! Running one step of a pipeline: whether it runs, and its value.

use super::{
    kept::Asked,
    lane::Lane,
    log::Log,
    observe::Tale,
    once::{Along, Around, Came, One, panicked},
    parts::{Kept, Work},
    report::{Inside, Jump, Visit, Went, said},
    status::StepStatus,
};
use crate::{
    payload::RawPayload,
    step::{Bindings, Bypass, Exception, Flow, StepError, StepResult},
};
use futures_util::{future::BoxFuture, poll};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::time::Instant;

/// The ways to run a step that few go.
enum Way<'a> {
    Kept(&'a Log),
    Once(&'a Arc<Bindings>, Asked<'a>),
    NotAsked(&'a Arc<Bindings>, StepError),
}

impl One<'_> {
    /// Runs the step, unless the journal knows what it came to; records that before anything
    /// follows.
    pub(super) async fn run(self, lane: &mut Lane) -> Came {
        match self.going.log {
            None => self.run_now(lane, Asked::now()).await,
            Some(log) => self.apart(lane, Way::Kept(log)).await,
        }
    }

    /// Runs the step in a way that few do. The future is made here, so that the others have no room
    /// for it on their stacks.
    fn apart<'l>(self, lane: &'l mut Lane, way: Way<'l>) -> BoxFuture<'l, Came>
    where
        Self: 'l,
    {
        match way {
            Way::Kept(log) => Box::pin(self.run_kept(log, lane)),
            Way::Once(bindings, asked) => Box::pin(self.run_once(lane, bindings, asked)),
            Way::NotAsked(bindings, error) => Box::pin(self.not_asked(lane, bindings, error)),
        }
    }

    /// Runs the step as often as its policy allows, keeps its value, and notes what it came to.
    pub(super) async fn run_now(self, lane: &mut Lane, mut asked: Asked<'_>) -> Came {
        let (bound, since) = (lane.bound.take(), lane.since.take());
        let bindings = bound.as_ref().unwrap_or(&self.def().bindings);
        let is_run = match asked.is_known {
            true => Ok(None),
            false => self.is_run(Around { store: &lane.store, bindings, step_try: 1 }),
        };
        match is_run {
            Ok(None) => {}
            Ok(Some((came, value, reason))) => {
                if let Some(value) = value {
                    Arc::make_mut(&mut lane.store).keep(&self.def().output, value);
                }
                return self.passed(lane, came, reason).await;
            }
            Err(error) => return self.apart(lane, Way::NotAsked(bindings, error)).await,
        }
        if self.def().once.is_some() && !asked.is_known {
            return self.apart(lane, Way::Once(bindings, asked)).await;
        }
        asked.runs();
        let is_asked = self.def().bypass.is_some() || self.def().condition.is_some();
        let is_told = self.going.heard(Tale::StepStart).is_some();
        let start = match since.filter(|_| !is_asked && !is_told) {
            Some(since) => since,
            None => self.starts(lane, bindings).await,
        };
        let mut along = Along::default();
        let (came, tries) = self.tries(&lane.store, bindings, start, &mut along).await;
        self.ended(lane, came, tries, start, along).await
    }

    /// Tells of a step that did not run, since it could not be asked whether to.
    async fn not_asked(self, lane: &mut Lane, bindings: &Arc<Bindings>, error: StepError) -> Came {
        let start = self.starts(lane, bindings).await;
        self.ended(lane, Came::Not(error), 0, start, Along::default()).await
    }

    /// Runs the step if no run before did; else takes what it left then.
    async fn run_once(
        self,
        lane: &mut Lane,
        bindings: &Arc<Bindings>,
        mut asked: Asked<'_>,
    ) -> Came {
        let cell = self.def().fitted();
        let mut ran = None;
        let work = async {
            asked.runs();
            let (start, mut along) = (self.starts(lane, bindings).await, Along::default());
            let (came, tries) = self.tries(&lane.store, bindings, start, &mut along).await;
            let value = match &came {
                Came::Went(Flow::Next(value)) => {
                    Ok(Kept { value: value.clone(), left: along.left.clone() })
                }
                _ => Err(()),
            };
            ran = Some((came, tries, start, along));
            value
        };
        // Another run may be at it, which this one waits for no longer than it may take.
        let kept = {
            let mut kept = pin!(cell.get_or_try_init(|| work));
            match self.going.limits.are_none() {
                true => Ok(kept.await),
                false => match poll!(&mut kept) {
                    Poll::Ready(kept) => Ok(kept),
                    Poll::Pending => self.going.limits.bound(None, kept).await,
                },
            }
        };
        match (ran, kept) {
            (Some((came, tries, start, along)), _) => {
                self.ended(lane, came, tries, start, along).await
            }
            (None, Err(cut)) => {
                self.ended(lane, cut.into(), 0, Instant::now(), Along::default()).await
            }
            (None, Ok(kept)) => {
                if let Ok(Kept { value, left }) = kept {
                    let own = value.iter().map(|value| (&self.def().output, value));
                    for (name, value) in own.chain(left.iter().map(|(name, value)| (name, value))) {
                        Arc::make_mut(&mut lane.store).keep(&**name, value.clone());
                    }
                }
                self.passed(lane, Came::Passed, "fitted").await
            }
        }
    }

    /// Notes a step that does not run.
    async fn passed(&self, lane: &mut Lane, came: Came, reason: &'static str) -> Came {
        self.note(lane, StepStatus::Skipped, 0, Duration::ZERO);
        if let Some(observer) = self.going.heard(Tale::StepSkipped) {
            observer.step_skipped(self.index, reason).await;
        }
        came
    }

    pub(super) fn note<'l>(
        &self,
        lane: &'l mut Lane,
        status: StepStatus,
        tries: u32,
        duration: Duration,
    ) -> &'l mut Visit {
        let node = u32::try_from(self.index).unwrap_or(u32::MAX);
        let (went, inside) = (Went::On, Inside::Nothing);
        lane.trail.push(Visit { node, status, tries, duration, error: None, went, inside });
        let last = lane.trail.len() - 1;
        &mut lane.trail[last]
    }

    /// Keeps the value of a step that ran, notes what it came to, and tells of it.
    async fn ended(
        &self,
        lane: &mut Lane,
        came: Came,
        tries: u32,
        start: Instant,
        along: Along,
    ) -> Came {
        let came = self.keep(came, &along, lane);
        let end = Instant::now();
        let (status, duration) = (came.status(), end.saturating_duration_since(start));
        let visit = self.note(lane, status, tries, duration);
        match &came {
            Came::Not(error) => {
                // Told here, since a branch, a group or a lenient pipeline may pass over it.
                let (pipeline, step) = (&*self.going.plan.name, self.def().name());
                let (kind, why) = (error.kind(), said(error));
                tracing::info!(pipeline, step, kind, error = why, "a step did not succeed");
                visit.error = Some(why);
            }
            Came::Went(Flow::Goto(goto)) => {
                let jump = Jump { to: goto.to.as_str().into(), reason: goto.reason.clone() };
                visit.went = Went::Goto(Box::new(jump));
            }
            Came::Went(Flow::Branch(branch)) => {
                visit.went = Went::Branch(branch.label.as_str().into());
            }
            _ => {}
        }
        if let Some(inside) = along.inside {
            visit.inside = inside;
        }
        let tale = match &came {
            Came::Went(Flow::Skip) => Tale::StepSkipped,
            Came::Not(_) => Tale::StepError,
            _ => Tale::StepEnd,
        };
        let heard = self.going.heard(tale);
        lane.since = Some(end).filter(|_| heard.is_none() && self.going.log.is_none());
        if let Some(observer) = heard {
            self.tell_ended(observer, lane, &came, (tries, duration)).await;
        }
        came
    }

    /// Asks whether the step is run; else tells how it is not, what is passed on, and why. A panic
    /// stays inside.
    #[allow(clippy::type_complexity)]
    fn is_run(
        &self,
        around: Around<'_>,
    ) -> StepResult<Option<(Came, Option<RawPayload>, &'static str)>> {
        let def = self.def();
        let asked = || -> StepResult<_> {
            let bypass = match (&def.bypass, &def.work) {
                (Some(asks), _) => asks.ask(&self.input(around))?,
                (None, Work::Step(step)) => step.can_bypass(&self.input(around))?,
                (None, _) => Bypass::No,
            };
            let value = match (bypass, def.signature.all_needs()) {
                (Bypass::No, _) => None,
                (Bypass::With(value), _) => Some(Some(value)),
                (Bypass::Pass, [need]) => {
                    Some(around.store.value(around.bindings.key(&need.name)).cloned())
                }
                (Bypass::Pass, _) => Some(None),
            };
            if let Some(value) = value {
                return Ok(Some((Came::Passed, value, "bypassed")));
            }
            match &def.condition {
                Some(asks) if !asks.ask(&self.input(around))? => {
                    Ok(Some((Came::LeftOut, None, "condition")))
                }
                _ => Ok(None),
            }
        };
        catch_unwind(AssertUnwindSafe(asked)).unwrap_or_else(|panic| Err(panicked(panic)))
    }

    /// Keeps the value of a step that succeeded, or what it found if it did not and another step
    /// takes that; refuses a way that is not there.
    fn keep(&self, came: Came, along: &Along, lane: &mut Lane) -> Came {
        let def = self.def();
        let flow = match came {
            Came::Went(flow) => flow,
            Came::Not(error) => {
                if self.going.plan.nodes[self.index].is_told {
                    Arc::make_mut(&mut lane.store).keep(&def.output, found(&error));
                }
                return Came::Not(error);
            }
            other => return other,
        };
        if let Err(why) = self.leads_on(&flow) {
            return Came::Not(StepError::Exception(Exception::new("flow", why)));
        }
        if let Some(value) = flow.value() {
            Arc::make_mut(&mut lane.store).keep(&def.output, value.clone());
        }
        for (name, value) in &along.left {
            Arc::make_mut(&mut lane.store).keep(&**name, value.clone());
        }
        Came::Went(flow)
    }

    /// Checks that where a step goes is a way from here.
    fn leads_on(&self, flow: &Flow) -> Result<(), String> {
        let node = &self.going.plan.nodes[self.index];
        let or_none = |all: Vec<&str>| if all.is_empty() { "none".into() } else { all.join(", ") };
        match flow {
            Flow::Goto(goto) => {
                let targets = node.def.signature.targets();
                if targets.contains(&goto.to) {
                    return Ok(());
                }
                let known = or_none(targets.iter().map(String::as_str).collect());
                Err(format!("it jumps to `{}`, but declares: {known}", goto.to.escape_debug()))
            }
            Flow::Branch(branch) => {
                if node.arms.iter().any(|arm| *arm.label == *branch.label) {
                    return Ok(());
                }
                let known = or_none(node.arms.iter().map(|arm| &*arm.label).collect());
                let label = branch.label.escape_debug();
                Err(format!("it takes branch `{label}`, but has: {known}"))
            }
            _ => Ok(()),
        }
    }
}

/// Returns what a step that did not succeed found, for the step that takes it.
fn found(error: &StepError) -> RawPayload {
    match error {
        StepError::Failure(failure) => RawPayload::of(failure.found().clone()),
        StepError::Exception(exception) => {
            let (kind, message) = (exception.kind.as_str(), error.line());
            RawPayload::of(serde_json::json!({ "kind": kind, "message": message }))
        }
    }
}
