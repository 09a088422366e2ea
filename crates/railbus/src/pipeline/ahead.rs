//! Jumps ahead, and which values they leave out.

use super::parts::Node;
use std::collections::{HashMap, HashSet};

/// Jumps to steps that the walk along a pipeline did not come to yet.
///
/// What the walk does is in its log of changes, `undo`: a jump has its place there, and whatever
/// changed between that place and the step it leads to is not there after it. So none of them keeps
/// the names of all values, of which there may be as many as steps.
pub(super) struct Jumps {
    all: Vec<Ahead>,
    // Those that lead to each step.
    to: HashMap<usize, Vec<usize>>,
    // Those that are on their way, in the order of their places.
    open: Vec<usize>,
    // The last step that can't do without each value.
    needed: HashMap<String, usize>,
}

struct Ahead {
    from: usize,
    place: usize,
    // What is there, beside what was at its place: what its step and its branch left.
    more: HashSet<String>,
    is_there: bool,
}

/// The changes of a walk: names of values, and what was there before.
type Undo<L> = [(String, Option<L>)];

impl Jumps {
    pub(super) fn of(nodes: &[Node]) -> Self {
        let mut jumps =
            Self { all: Vec::new(), to: HashMap::new(), open: Vec::new(), needed: HashMap::new() };
        for (index, node) in nodes.iter().enumerate() {
            for need in node.def.signature.all_needs().iter().filter(|need| !need.optional) {
                jumps.need(node.def.bindings.key(&need.name), index);
            }
        }
        jumps
    }

    /// Notes that a step can't do without a value.
    pub(super) fn need(&mut self, key: &str, index: usize) {
        let last = self.needed.entry(key.to_owned()).or_default();
        *last = index.max(*last);
    }

    /// Notes a jump from a step that leaves `output`, at this place of the log.
    pub(super) fn note(&mut self, from: usize, to: usize, place: usize, output: &str) {
        let more = HashSet::from([output.to_owned()]);
        self.to.entry(to).or_default().push(self.all.len());
        self.open.push(self.all.len());
        self.all.push(Ahead { from, place, more, is_there: false });
    }

    /// Goes back to a place of the log, at the end of a branch: what the branch left before a jump
    /// out of it is there after the jump.
    pub(super) fn back<L>(&mut self, place: usize, undo: &Undo<L>) {
        let mut still_open = Vec::new();
        while let Some(id) = self.open.pop_if(|id| self.all[*id].place > place) {
            let jump = &mut self.all[id];
            if !jump.is_there {
                let left = undo.get(place..jump.place).unwrap_or_default();
                jump.more.extend(left.iter().map(|(name, _)| name.clone()));
                jump.place = place;
                still_open.push(id);
            }
        }
        self.open.extend(still_open.into_iter().rev());
    }

    /// Comes to a step; returns the first that jumps there, and the values that are not there after
    /// one of the jumps, if this step or one behind it can't do without one of them.
    pub(super) fn arrive<L>(
        &mut self,
        at: usize,
        undo: &Undo<L>,
    ) -> Option<(usize, HashSet<String>)> {
        let mut ids = self.to.remove(&at)?;
        ids.iter().for_each(|id| self.all[*id].is_there = true);
        ids.sort_by_key(|id| self.all[*id].place);
        let first = ids.first().map(|id| self.all[*id].place)?;
        let mut having: HashMap<&str, usize> = HashMap::new();
        for name in ids.iter().flat_map(|id| &self.all[*id].more) {
            *having.entry(name).or_default() += 1;
        }
        let mut before = 0;
        let all = undo.iter().enumerate().skip(first).filter(|(place, (name, was))| {
            while ids.get(before).is_some_and(|id| self.all[*id].place <= *place) {
                before += 1;
            }
            // New since `before` of the jumps, of which some have it all the same.
            was.is_none() && before > having.get(name.as_str()).copied().unwrap_or(0)
        });
        let missing: Vec<&String> = all.map(|(_, (name, _))| name).collect();
        let is_needed = |name: &&String| self.needed.get(*name).is_some_and(|last| *last >= at);
        let from = ids.iter().map(|id| self.all[*id].from).min()?;
        let some = missing.iter().any(is_needed);
        some.then(|| (from, missing.into_iter().cloned().collect()))
    }
}
