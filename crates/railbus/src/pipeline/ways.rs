//! Going along the ways that a run can take, with the values that are there for sure.

use super::{
    parts::{Given, Node, Stops},
    there::{Left, Names, There},
};
use crate::{
    error::{Error, ErrorKind, Result, nearest},
    step::{Kind, Need},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// Goes along the ways that a run can take, with the values that are there for sure.
pub(super) struct Walk<'a> {
    pub(super) nodes: &'a mut [Node],
    pub(super) lenient: bool,
    pub(super) closed: bool,
    pub(super) inputs: Vec<Given>,
    pub(super) optional: Vec<String>,
    pub(super) places: HashMap<Arc<str>, usize>,
    // The values that are there at this point, whichever way led to it.
    pub(super) left: There,
    // What was there before each change, to go back to where branches part.
    pub(super) undo: Vec<(String, Option<Left>)>,
    // Everything that some step leaves, on some way, with the last that does.
    pub(super) maybe: HashMap<String, Left>,
    pub(super) seen: HashSet<usize>,
    // Where jumps arrive, beside the way on foot: the first one, and the names that all bring.
    pub(super) jumps: BTreeMap<usize, (usize, Names)>,
    // Whether this is the way after a jump, along which only what is there is looked at.
    pub(super) is_again: bool,
    // The jump that leaves a name out there; of the others that is the first.
    pub(super) lost: HashMap<String, usize>,
    pub(super) first_jump: Option<usize>,
}

pub(super) type Changes = HashMap<String, Left>;

/// What comes before a step.
#[derive(Clone, Copy)]
pub(super) enum Before {
    /// A step with whatever branches it has.
    On(usize),
    /// The step whose branch begins here.
    In(usize),
}

impl Walk<'_> {
    /// Goes from a step to the one before `stop`, or to the end.
    pub(super) fn line(
        &mut self,
        entry: usize,
        stop: Option<usize>,
        before: Option<Before>,
    ) -> Result<()> {
        let (mut at, mut before) = (Some(entry), before);
        while let Some(index) = at.filter(|at| Some(*at) != stop) {
            self.step(index, before)?;
            before = Some(Before::On(index));
            at = self.nodes[index].next;
        }
        Ok(())
    }

    pub(super) fn step(&mut self, index: usize, before: Option<Before>) -> Result<()> {
        self.seen.insert(index);
        if self.nodes[index].def.is_piped && !self.is_again {
            self.pipe(index, before)?;
        }
        self.needs(index).map_err(|e| e.with("step", &self.nodes[index].def.name))?;
        let base = self.undo.len();
        self.note_jumps(index)?;
        let members = self.nodes[index].members.clone();
        let mut together: Vec<Changes> = Vec::new();
        for member in &members {
            let mark = self.undo.len();
            // What is piped to the group is piped to each of its members.
            self.nodes[member.start].def.is_piped |= self.nodes[index].def.is_piped;
            self.line(member.start, None, before)?;
            together.push(self.back(mark));
        }
        self.no_clash(index)?;
        let own = self.own(index, together);
        for (name, left) in &own {
            self.maybe.insert(name.clone(), left.clone());
        }
        let def = &self.nodes[index].def;
        if self.nodes[index].arms.is_empty() && def.condition.is_none() {
            self.set_all(own);
            return Ok(());
        }
        self.branches(index, &own, base)
    }

    /// What a step leaves when it succeeds.
    pub(super) fn own(&self, index: usize, together: Vec<Changes>) -> Changes {
        let def = &self.nodes[index].def;
        let mut own: Changes = together.into_iter().flatten().collect();
        if let Some(leaves) = def.sub_leaves() {
            for leaf in leaves.iter().filter(|leaf| leaf.is_sure) {
                own.insert(leaf.name.to_string(), Left { by: Some(index), kind: leaf.kind });
            }
            return own;
        }
        let kind = def.signature.output_kind();
        // A step that leaves nothing leaves in place what goes by its name.
        let stays = kind.is_some_and(Kind::is_nothing) && self.left.contains_key(&def.output);
        let has_value = self.nodes[index].is_named();
        if has_value && !stays || self.nodes[index].is_told {
            own.insert(def.output.to_string(), Left { by: Some(index), kind });
        }
        own
    }

    /// Goes along each branch of a step, and keeps what all of them and the way past them leave.
    pub(super) fn branches(&mut self, index: usize, own: &Changes, base: usize) -> Result<()> {
        let (arms, join) = (self.nodes[index].arms.clone(), self.nodes[index].next);
        let def = &self.nodes[index].def;
        let mut ways: Vec<Changes> = Vec::new();
        let has = |label: &str| arms.iter().any(|arm| *arm.label == *label);
        let goes_on = |stop: Option<bool>| !stop.unwrap_or(!self.lenient);
        let Stops { error, exception, .. } = def.stops;
        if !has("1") {
            ways.push(own.clone());
        }
        if def.condition.is_some() {
            ways.push(Changes::new());
        }
        // A lenient pipeline vouches for nothing that a step would have left.
        if !has("0") && (goes_on(error) || goes_on(exception)) {
            ways.push(own.clone());
        }
        for arm in &arms {
            if *arm.label != *"0" {
                self.set_all(own.clone());
            }
            self.line(arm.to, join, Some(Before::In(index)))?;
            let mut way = self.back(base);
            if *arm.label == *"0" {
                // What a failure found is no value of the step.
                way.retain(|_, left| left.by != Some(index));
            }
            ways.push(way);
        }
        let Some((first, rest)) = ways.split_first() else { return Ok(()) };
        let mut kept = first.clone();
        kept.retain(|name, left| {
            rest.iter().all(|way| match way.get(name) {
                None => self.left.contains_key(name),
                Some(other) => {
                    if other.kind != left.kind {
                        left.kind = None;
                    }
                    true
                }
            })
        });
        // What was there before and is replaced on some way is of a type that only the run knows.
        for (name, other) in rest.iter().flatten() {
            let before = self.left.get(name);
            if let Some(before) = before.filter(|_| !kept.contains_key(name)) {
                let kind = before.kind.filter(|kind| Some(*kind) == other.kind);
                kept.insert(name.clone(), Left { by: other.by, kind });
            }
        }
        self.set_all(kept);
        Ok(())
    }

    pub(super) fn set(&mut self, name: String, left: Left) {
        self.maybe.insert(name.clone(), left.clone());
        let before = self.left.insert(&name, left);
        self.undo.push((name, before));
    }

    pub(super) fn set_all(&mut self, changes: Changes) {
        for (name, left) in changes {
            self.set(name, left);
        }
    }

    /// Goes back to where `undo` was this long; returns what had changed since.
    pub(super) fn back(&mut self, mark: usize) -> Changes {
        let mut changes = Changes::new();
        for (name, before) in self.undo.drain(mark..).rev().collect::<Vec<_>>() {
            let after = match before {
                Some(before) => self.left.insert(&name, before),
                None => self.left.remove(&name),
            };
            if let Some(after) = after {
                changes.entry(name).or_insert(after);
            }
        }
        changes
    }

    pub(super) fn needs(&mut self, index: usize) -> Result<()> {
        let def = &self.nodes[index].def;
        let (signature, bindings) = (def.signature.clone(), Arc::clone(&def.bindings));
        let node = &self.nodes[index];
        // What only the run can bind.
        let taken = node.takes.clone().filter(|_| node.takes_last || self.is_again);
        for need in signature.all_needs() {
            if taken.as_ref() != Some(&need.name) {
                self.need(index, need, bindings.key(&need.name))?;
            }
        }
        Ok(())
    }

    pub(super) fn need(&mut self, index: usize, need: &Need, key: &str) -> Result<()> {
        let jump = self.lost.get(key).copied().or(self.first_jump).filter(|_| self.is_again);
        let refuse = |why: String, hint: String| {
            let error = Error::new(ErrorKind::Config, "pipeline", why).hint(hint);
            Err(match jump {
                Some(from) => error
                    .with("way", format!("after the jump from `{}`", self.nodes[from].def.name)),
                None => error,
            })
        };
        // After a jump it may be of a type that another step left.
        let is_unsure = self.is_again && self.left.is_mixed(key);
        match self.left.get(key) {
            Some(Left { by, kind: Some(kind) }) if !is_unsure && !need.takes(*kind) => {
                let by = self.by(*by);
                let why = format!(
                    "`{key}` is a {} of {by}, but is needed as a {}",
                    kind.name, need.kind.name
                );
                refuse(why, "make the types the same, or bind another value".into())
            }
            Some(_) => Ok(()),
            None if need.optional => {
                self.optional.push(key.to_owned());
                Ok(())
            }
            None if self.inputs.iter().any(|given| given.name == *key) => Ok(()),
            None if self.maybe.contains_key(key) => {
                let by = self.by(self.maybe.get(key).and_then(|left| left.by));
                let why = format!("`{key}` of {by} is not there on every way that leads here");
                refuse(why, "leave it on the other ways, too, or take it as an Option".into())
            }
            None if self.jumped(index, need) => Ok(()),
            None if self.closed => {
                let near = nearest(key, self.left.keys());
                let near = near.map(|near| format!("did you mean `{near}`? "));
                let hint = format!(
                    "{}declare it with .input::<..>(\"{key}\"), or add a step before that leaves it",
                    near.unwrap_or_default()
                );
                refuse(format!("nothing leaves `{key}`, which it needs"), hint)
            }
            None => {
                self.inputs.push(Given { name: key.into(), kind: Some(need.kind) });
                // Given before the first step, so that it is there on every way.
                self.left.insert(key, Left { by: None, kind: Some(need.kind) });
                Ok(())
            }
        }
    }

    pub(super) fn by(&self, by: Option<usize>) -> String {
        by.map_or("an input".into(), |by| format!("step `{}`", self.nodes[by].def.name))
    }

    /// Tells whether only a jump comes here, which brings what is needed.
    pub(super) fn jumped(&self, index: usize, need: &Need) -> bool {
        self.nodes[index].takes.as_deref() == Some(&*need.name)
    }

    /// Members of a group run at the same time: none may leave what another does, be it on one of
    /// its ways only.
    pub(super) fn no_clash(&self, index: usize) -> Result<()> {
        let mut known: HashMap<&str, (usize, usize)> = HashMap::new();
        let members = self.nodes[index].members.iter().cloned().enumerate();
        for (member, at) in members.flat_map(|(member, steps)| steps.map(move |at| (member, at))) {
            for name in self.names_left(at) {
                let other = known.insert(name, (member, at));
                let Some((_, other)) = other.filter(|(of, _)| *of != member) else { continue };
                let (a, b) = (self.by(Some(other)), self.by(Some(at)));
                let why = format!("{a} and {b} both leave `{name}`, side by side");
                let error = Error::new(ErrorKind::Config, "pipeline", why);
                let error = error.with("step", &self.nodes[index].def.name);
                return Err(error.hint("give one of the values another name: .output(..)"));
            }
        }
        Ok(())
    }

    /// Returns the names of the values that a step may leave.
    fn names_left(&self, index: usize) -> Vec<&str> {
        let (node, def) = (&self.nodes[index], &self.nodes[index].def);
        if let Some(leaves) = def.sub_leaves() {
            return leaves.iter().map(|leaf| &*leaf.name).collect();
        }
        let is_nothing = def.signature.output_kind().is_some_and(Kind::is_nothing);
        let leaves = node.is_told || node.is_named() && !is_nothing;
        leaves.then_some(&*def.output).into_iter().collect()
    }
}
