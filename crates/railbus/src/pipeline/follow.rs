//! Following the flow: from a step to the one after it, and along members of a group at once.

use super::{
    kept::not_begun,
    lane::{Going, Lane},
    observe::Told,
    once::{Around, Came, One},
    parts::{Limits, Node, Work},
    report::{Inside, Visit, Went, said},
    status::{CancelReason, StopReason},
};
use crate::{
    payload::RawPayload,
    step::{Bindings, Exception, Failure, Flow, Joined, Need, StepError},
};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

impl<'a> Going<'a> {
    /// Follows the flow from a step to where it ends.
    pub(super) async fn follow(self, lane: &mut Lane, entry: usize) {
        let mut at = Some(entry);
        while let Some(index) = at {
            if let Some(reason) = self.limits.over()
                && self.ends_here(index, reason).await
            {
                // Between two steps: none of them was given up.
                lane.cancelled = Some((None, reason));
                return;
            }
            let came = match self.plan.nodes[index].def.work {
                Work::Parallel(_) => self.group(lane, index).await,
                _ => One { going: self, index }.run(lane).await,
            };
            at = self.after(lane, index, came);
        }
    }

    /// Tells whether limits that are over end the line before this step. In a run that is kept one
    /// of its parts ends where it did before; where that is, is recorded.
    async fn ends_here(self, index: usize, reason: CancelReason) -> bool {
        let Some(log) = self.log.filter(|log| log.limits.over().is_none()) else { return true };
        let node = &self.plan.nodes[index];
        let knows = |node: &Node| log.knows(self.prefix, &node.def.name);
        let mut members = node.members.iter().cloned();
        if knows(node) || members.any(|steps| self.plan.nodes[steps].iter().any(knows)) {
            return false;
        }
        if node.members.is_empty() {
            let (place, _) = log.arrive(self.prefix, &node.def.name);
            log.record(place, not_begun(reason)).await;
        }
        true
    }

    /// Decides where the run goes after a step.
    fn after(self, lane: &mut Lane, index: usize, came: Came) -> Option<usize> {
        let node = &self.plan.nodes[index];
        let (stops, strict) = (node.def.stops, !self.plan.lenient);
        lane.last = Some(index);
        if lane.stopped.is_some() {
            // A member of the group ended the run, whatever the group came to.
            let blamed = lane.blamed.take();
            if let Came::Not(error) = came {
                lane.fail(Some(blamed.as_ref().unwrap_or(&node.def.name)), error);
            }
            return None;
        }
        match came {
            Came::LeftOut => self.on(lane, index, node.next),
            Came::Passed => self.on(lane, index, node.arm("1").or(node.next)),
            Came::Went(Flow::Stop(_)) => self.stop(lane, node, StopReason::Asked, true),
            Came::Went(Flow::Skip) => self.on(lane, index, node.next),
            Came::Went(Flow::Goto(goto)) => self.jump(lane, index, &goto.to),
            Came::Went(Flow::Branch(branch)) => self.on(lane, index, node.arm(&branch.label)),
            Came::Went(Flow::Next(_)) if stops.success == Some(true) => {
                self.stop(lane, node, StopReason::Success, true)
            }
            Came::Went(Flow::Next(_)) => self.on(lane, index, node.arm("1").or(node.next)),
            Came::Cut(reason) => {
                // A group has said already which of its members it was.
                let step = || node.is_named().then(|| Arc::clone(&node.def.name));
                lane.cancelled.get_or_insert_with(|| (step(), reason));
                None
            }
            Came::Not(error) => {
                if let Some(to) = node.arm("0") {
                    lane.blamed = None;
                    return self.on(lane, index, Some(to));
                }
                let (says, reason) = match &error {
                    StepError::Failure(_) => (stops.error, StopReason::Failure),
                    StepError::Exception(_) => (stops.exception, StopReason::Exception),
                };
                let blamed = lane.blamed.take();
                lane.fail(Some(blamed.as_ref().unwrap_or(&node.def.name)), error);
                match says.unwrap_or(strict) {
                    true => self.stop(lane, node, reason, says == Some(true)),
                    false => self.on(lane, index, node.next),
                }
            }
        }
    }

    fn stop(self, lane: &mut Lane, node: &Node, reason: StopReason, told: bool) -> Option<usize> {
        lane.stopped = Some((Arc::clone(&node.def.name), reason));
        lane.is_told_to_stop = told;
        None
    }

    /// Goes on to a step; binds what it takes from the one before, where only that is known now.
    fn on(self, lane: &mut Lane, from: usize, to: Option<usize>) -> Option<usize> {
        let node = &self.plan.nodes[to?];
        if let Some(local) = node.takes.as_ref().filter(|_| node.takes_last) {
            lane.bound = Some(self.bound(node, local, from));
        }
        to
    }

    fn bound(self, node: &Node, local: &str, from: usize) -> Arc<Bindings> {
        let mut bindings = Bindings::clone(&node.def.bindings);
        bindings.bind(local.into(), self.plan.nodes[from].def.output.to_string());
        Arc::new(bindings)
    }

    fn jump(self, lane: &mut Lane, from: usize, target: &str) -> Option<usize> {
        let node = &self.plan.nodes[from];
        let place = node.def.signature.targets().iter().position(|known| known == target)?;
        let to = *node.jumps.get(place)?;
        let arrivals = lane.arrivals.entry(to).or_insert_with(|| {
            // It may have come there on foot before.
            let visits = lane.trail.iter().filter(|visit| visit.node as usize == to).count();
            u32::try_from(visits).unwrap_or(u32::MAX)
        });
        *arrivals = arrivals.saturating_add(1);
        if *arrivals > self.plan.visits_max {
            let (max, cycle) = (self.plan.visits_max, lane.cycle(self.plan, to));
            let times = if max == 1 { "time" } else { "times" };
            let why = format!("the run came to `{target}` {max} {times}: {cycle}");
            let name = &self.plan.nodes[from].def.name;
            lane.fail(Some(name), StepError::Exception(Exception::new("loop", why)));
            return self.stop(lane, &self.plan.nodes[from], StopReason::Exception, true);
        }
        let (node, brings) = (&self.plan.nodes[to], &self.plan.nodes[from].def.output);
        let is_bound = |need: &Need| node.def.bindings.key(&need.name) == &**brings;
        let gets_it = node.def.signature.all_needs().iter().any(is_bound);
        if let Some(local) = node.takes.as_ref().filter(|_| !gets_it) {
            lane.bound = Some(self.bound(node, local, from));
        }
        Some(to)
    }

    /// As [`Going::together`]; a future of a type of its own, since members may be groups.
    fn group<'l>(self, lane: &'l mut Lane, index: usize) -> BoxFuture<'l, Came>
    where
        'a: 'l,
    {
        Box::pin(self.together(lane, index))
    }

    /// Runs the members of a group at once, each on a line of its own.
    async fn together(self, lane: &mut Lane, index: usize) -> Came {
        let node = &self.plan.nodes[index];
        let Work::Parallel(group) = &node.def.work else { return Came::LeftOut };
        lane.since = None;
        if let Some(told) = self.group_starts(lane, index) {
            told.await;
        }
        let start = Instant::now();
        let limits = match group.is_fail_fast {
            true => self.limits.apart(),
            false => self.limits.clone(),
        };
        let mut lanes = self.lanes(lane, node);
        self.run_all(&mut lanes, node, &limits).await;
        let came = self.judged(lane, lanes, node);
        if node.is_named() {
            self.note(lane, index, &came, start.elapsed());
        }
        if let Some(told) = self.group_ended(lane, index, &came, start.elapsed()) {
            told.await;
        }
        came
    }

    /// Puts together what the members left, and returns what the group came to.
    fn judged(self, lane: &mut Lane, mut lanes: Vec<Lane>, node: &Node) -> Came {
        let Work::Parallel(group) = &node.def.work else { return Came::LeftOut };
        if let Some((step, reason)) = self.outer_cut(&mut lanes) {
            self.merge(lane, lanes, node);
            lane.cancelled = Some((step, reason));
            return Came::Cut(reason);
        }
        let went_well = lanes.iter().filter(|member| member.went_well()).count();
        let succeeded = group.evaluation.succeeds(went_well, lanes.len());
        let value = node.collects().then(|| self.joined(&lanes));
        let why = (!succeeded).then(|| self.why_not(node, &mut lanes));
        self.merge(lane, lanes, node);
        match why {
            Some((step, error)) => {
                lane.blamed = step;
                Came::Not(error)
            }
            None => {
                if let Some(value) = &value {
                    Arc::make_mut(&mut lane.store).keep(&node.def.output, value.clone());
                }
                Came::Went(Flow::Next(value))
            }
        }
    }

    /// Tells that a group begins, if it has a name of its own and somebody may listen.
    fn group_starts<'l>(self, lane: &'l Lane, index: usize) -> Option<BoxFuture<'l, ()>>
    where
        'a: 'l,
    {
        let node = &self.plan.nodes[index];
        let watch = self.watch.filter(|_| node.is_named())?;
        Some(Box::pin(async move {
            let one = One { going: self, index };
            let around = Around { store: &lane.store, bindings: &node.def.bindings, step_try: 1 };
            watch.step_started(index, &one.input(around), &[]).await;
        }))
    }

    /// Tells what a group came to, as [`Going::group_starts`] does.
    fn group_ended<'l>(
        self,
        lane: &'l Lane,
        index: usize,
        came: &'l Came,
        duration: Duration,
    ) -> Option<BoxFuture<'l, ()>>
    where
        'a: 'l,
    {
        let node = &self.plan.nodes[index];
        let watch = self.watch.filter(|_| node.is_named())?;
        let error = match came {
            Came::Not(error) => Some(error),
            _ => None,
        };
        let (attempt, status) = (1, came.status().name());
        let (goto, branch, items) = (None, None, None);
        let told = Told { index, attempt, duration, status, error, goto, branch, items };
        Some(Box::pin(async move {
            watch.step_ended(told, &lane.store, &node.def.output).await;
        }))
    }

    /// Notes what a group with a name of its own came to.
    fn note(self, lane: &mut Lane, index: usize, came: &Came, duration: Duration) {
        let error = match came {
            // What a member came to is said in its own line.
            Came::Not(error) => Some(error).filter(|_| lane.blamed.is_none()).map(said),
            _ => None,
        };
        let node = u32::try_from(index).unwrap_or(u32::MAX);
        let (status, went, inside) = (came.status(), Went::On, Inside::Nothing);
        lane.trail.push(Visit { node, status, tries: 1, duration, error, went, inside });
    }

    fn lanes(self, lane: &Lane, node: &Node) -> Vec<Lane> {
        let members = node.members.iter();
        let each = members.map(|steps| {
            let mut member = Lane::new(Arc::clone(&lane.store), steps.len());
            // What is piped to the group is piped to each of its members.
            member.before = lane.last.or(lane.before);
            if let Some(last) = member.before {
                self.on(&mut member, last, Some(steps.start));
            }
            member
        });
        each.collect()
    }

    async fn run_all(self, lanes: &mut [Lane], node: &Node, limits: &Limits) {
        let Work::Parallel(group) = &node.def.work else { return };
        let (total, mut lost) = (lanes.len(), 0);
        let inner = Going { limits, ..self };
        let runs = lanes.iter_mut().zip(&node.members).map(|(member, steps)| async move {
            inner.follow(member, steps.start).await;
            member.went_well()
        });
        let mut runs: FuturesUnordered<_> = runs.collect();
        while let Some(went_well) = runs.next().await {
            lost += usize::from(!went_well);
            if let Some(cancel) = &limits.cancel
                && group.is_fail_fast
                && group.evaluation.impossible(lost, total)
            {
                cancel.cancel();
            }
        }
    }

    /// Tells whether the whole run was given up while members ran, and in which step.
    fn outer_cut(self, lanes: &mut [Lane]) -> Option<(Option<Arc<str>>, CancelReason)> {
        let reason = self.limits.over()?;
        let mut cut = lanes.iter_mut().filter_map(|member| member.cancelled.take());
        let first = cut.next()?.0;
        // One that was between two of its steps names none.
        Some((first.or_else(|| cut.find_map(|(step, _)| step)), reason))
    }

    /// Returns the values of the members as one.
    fn joined(self, lanes: &[Lane]) -> RawPayload {
        let mut values = lanes.iter().map(|member| member.value(self.plan).cloned());
        match lanes.len() {
            1 => values.next().flatten().unwrap_or_else(RawPayload::null),
            _ => RawPayload::of(Joined(values.collect())),
        }
    }

    /// Returns why a group failed: the worst error of its members, the first of its kind.
    fn why_not(self, node: &Node, lanes: &mut [Lane]) -> (Option<Arc<str>>, StepError) {
        let mut worst = Lane::new(Arc::default(), 0);
        for member in lanes {
            if let Some((step, error)) = member.failed.take() {
                worst.fail(step.as_ref(), error);
            }
        }
        let name = &node.def.name;
        let why = match node.members.is_empty() {
            true => "a group has no members".into(),
            false => format!("not enough of {name} succeeded"),
        };
        let none = || StepError::Failure(Failure::new(why));
        worst.failed.unwrap_or_else(|| (None, none()))
    }

    /// Puts together what the members left, in their order.
    fn merge(self, lane: &mut Lane, lanes: Vec<Lane>, node: &Node) {
        for (member, steps) in lanes.into_iter().zip(&node.members) {
            for inner in &self.plan.nodes[steps.clone()] {
                let own = [&*inner.def.output].into_iter();
                let left = inner.def.sub_leaves().unwrap_or_default().iter().map(|l| &*l.name);
                for name in own.chain(left) {
                    if let Some(value) = member.store.value(name) {
                        Arc::make_mut(&mut lane.store).keep(name, value.clone());
                    }
                }
            }
            lane.trail.extend(member.trail);
            if member.is_told_to_stop && lane.stopped.is_none() {
                lane.stopped = member.stopped;
                lane.is_told_to_stop = true;
                if let Some((step, error)) = member.failed {
                    lane.fail(step.as_ref(), error);
                }
            }
        }
    }
}

impl Lane {
    /// Tells whether its steps came to a good end.
    fn went_well(&self) -> bool {
        self.failed.is_none() && self.cancelled.is_none()
    }
}

impl Node {
    /// Returns where the branch of that label begins.
    pub(super) fn arm(&self, label: &str) -> Option<usize> {
        self.arms.iter().find(|arm| *arm.label == *label).map(|arm| arm.to)
    }

    /// Tells whether somebody may ask for the value of a group.
    fn collects(&self) -> bool {
        self.is_told || self.is_named()
    }
}
