//! From steps as they are written to the plan that runs follow: a flat list, each with what comes
//! after it.

use super::{
    parts::{Arm, Body, How, Node, StepDef, Sub, Together, Way, Work},
    text::is_name,
};
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Makes a pipeline of a body that stands in another one.
pub(super) type Builds<'a> = dyn Fn(&StepDef, StepDef) -> Result<super::parts::Pipeline> + 'a;

/// Lays a line of steps out; positions are in the order in which steps were written.
///
/// # Errors
/// Returns a config error of a step that can't stand where it stands.
pub(super) fn compile(line: Vec<StepDef>, builds: &Builds<'_>) -> Result<Vec<Node>> {
    let mut plan = Layout { nodes: Vec::with_capacity(line.len()), builds, within: None };
    if !line.is_empty() {
        plan.line(line)?;
    }
    Ok(plan.nodes)
}

struct Layout<'a> {
    nodes: Vec<Node>,
    builds: &'a Builds<'a>,
    within: Option<usize>,
}

/// Where a part begins, and the steps that what follows it comes after.
struct Part {
    entry: usize,
    exits: Vec<usize>,
}

impl Layout<'_> {
    /// Lays out steps one after another.
    fn line(&mut self, line: Vec<StepDef>) -> Result<Part> {
        let mut whole: Option<Part> = None;
        for def in line {
            let part = self.part(def)?;
            whole = Some(match whole {
                None => part,
                Some(Part { entry, exits }) => {
                    for exit in exits {
                        self.nodes[exit].next = Some(part.entry);
                    }
                    Part { entry, exits: part.exits }
                }
            });
        }
        whole.ok_or_else(|| {
            let error = Error::new(ErrorKind::Config, "pipeline", "a group or branch has no steps");
            error.hint("put a step into it, or leave it out")
        })
    }

    fn part(&mut self, mut def: StepDef) -> Result<Part> {
        if let Some(problem) = def.problem.take() {
            return Err(problem.with("step", &def.name));
        }
        let is_bare = def.is_bare() && !is_name(&def.name);
        if let Work::Chain(steps) = &mut def.work {
            if is_bare {
                let mut steps = std::mem::take(steps);
                // What is piped to a chain is piped to its first step.
                if let Some(first) = steps.first_mut() {
                    first.is_piped |= def.is_piped;
                }
                return self.line(steps);
            }
            // What is said of all is said of a group of one member.
            let members = vec![StepDef::chain(std::mem::take(steps))];
            def.work = Work::Parallel(Together { members, ..Together::default() });
        }
        self.step(def)
    }

    fn step(&mut self, mut def: StepDef) -> Result<Part> {
        let entry = self.nodes.len();
        let arms = std::mem::take(&mut def.arms);
        let members = match &mut def.work {
            Work::Parallel(together) => std::mem::take(&mut together.members),
            _ => Vec::new(),
        };
        self.build_body(&mut def)?;
        // What it leaves once is its own, also where others were made of the same one.
        def.once = def.once.map(|_| Arc::default());
        self.nodes.push(Node {
            def,
            next: None,
            arms: Vec::new(),
            jumps: Vec::new(),
            members: Vec::new(),
            within: self.within,
            is_told: false,
            takes: None,
            takes_last: false,
        });
        let outside = self.within;
        for member in members {
            let start = self.nodes.len();
            self.within = Some(start);
            self.line(vec![member])?;
            let end = self.nodes.len();
            self.nodes[entry].members.push(start..end);
        }
        self.within = outside;
        let mut exits = vec![entry];
        for Arm { label, chain } in arms {
            let part = self.line(chain)?;
            self.nodes[entry].arms.push(Way { label, to: part.entry });
            exits.extend(part.exits);
        }
        Ok(Part { entry, exits })
    }

    /// Builds what has values of its own, and says of the step what that needs and leaves.
    fn build_body(&self, def: &mut StepDef) -> Result<()> {
        let Work::Sub(Sub { how, body }) = &def.work else { return Ok(()) };
        let built = match body {
            Body::Built(built) => built.clone(),
            Body::Def(inner) => (self.builds)(def, (**inner).clone())?,
        };
        let mut how = how.clone();
        let plan = &built.0;
        let mut signature = crate::step::Signature::new(&*def.name);
        if let How::Each(each) = &mut how {
            let wanted = &plan.wanted;
            let inputs = wanted.inputs.iter().map(|given| &given.name);
            let mut takes = inputs.chain(&wanted.optional);
            let item = match each.item.take() {
                Some(item) => takes.find(|name| **name == item),
                None => takes.next(),
            };
            let Some(item) = item else {
                let why = "it takes nothing that an item could be given as";
                let error = Error::new(ErrorKind::Config, "pipeline", why).with("step", &def.name);
                return Err(error.hint("let it take an argument, or say which: .item(\"name\")"));
            };
            each.item = Some(item.clone());
            signature = signature.needs::<serde_json::Value>(each.items.clone());
        }
        let item = match &how {
            How::Each(each) => each.item.clone(),
            _ => None,
        };
        for given in &plan.wanted.inputs {
            if Some(&given.name) != item.as_ref() {
                signature = signature.needs_kind(&given.name, given.kind);
            }
        }
        for name in plan.wanted.optional.iter().filter(|name| Some(*name) != item.as_ref()) {
            signature = signature.takes::<serde_json::Value>(name);
        }
        let leaves_list = matches!(how, How::Each(_));
        if leaves_list {
            signature = signature.leaves(&*def.output);
        }
        def.signature = Arc::new(signature);
        def.work = Work::Sub(Sub { how, body: Body::Built(built) });
        Ok(())
    }
}

impl StepDef {
    /// Tells whether nothing is said of it that its parts don't say, be it its name.
    pub(super) fn is_bare(&self) -> bool {
        let Self { arms, stops, bypass, condition, once, timeout, retry, executor, .. } = self;
        if self.problem.is_some()
            || self.output != self.name
            || self.bindings.pairs().next().is_some()
        {
            return false;
        }
        let says_nothing = bypass.is_none() && condition.is_none() && once.is_none();
        let stops = stops.success.is_none() && stops.error.is_none() && stops.exception.is_none();
        let plain = timeout.is_none() && retry.is_none() && executor.is_none();
        arms.is_empty() && says_nothing && stops && plain
    }

    /// Makes steps one after another a step.
    pub(super) fn chain(steps: Vec<StepDef>) -> Self {
        let names: Vec<&str> = steps.iter().map(|step| &*step.name).collect();
        let name: Arc<str> = format!("{{{}}}", names.join(" -> ")).into();
        Self::grouped(name, Work::Chain(steps))
    }
}
