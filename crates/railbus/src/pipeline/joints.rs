//! Where ways meet: what is piped from one step to the next, and where jumps lead.

use super::{
    there::{Left, Point, There},
    ways::{Before, Walk},
};
use crate::{
    error::{Error, ErrorKind, Result, nearest},
    step::{Kind, Need},
};
use std::{collections::BTreeMap, sync::Arc};

impl Walk<'_> {
    /// Binds the value of the step before to what the step has no value for yet.
    pub(super) fn pipe(&mut self, index: usize, before: Option<Before>) -> Result<()> {
        let Some(before) = before else {
            let def = &self.nodes[index].def;
            let error =
                Error::new(ErrorKind::Config, "pipeline", "nothing comes before it to pipe");
            return Err(error.with("step", &def.name).hint("pipe what follows a step"));
        };
        let (before, exits) = match before {
            Before::On(before) => (before, self.exits(before)),
            Before::In(before) => (before, vec![before]),
        };
        for exit in &exits {
            self.nodes[*exit].is_told = true;
        }
        if !self.nodes[index].members.is_empty() {
            return Ok(());
        }
        let key = self.nodes[before].def.output.to_string();
        let local = self.piped_to(index, (exits == [before]).then_some(&key))?;
        self.piped_for_sure(index, &local, &exits)?;
        if exits == [before] {
            // A group's value, and a failure's, which is there if there is no other.
            if !self.left.contains_key(&key) {
                self.set(key.clone(), Left { by: Some(before), kind: None });
            }
            Arc::make_mut(&mut self.nodes[index].def.bindings).bind(local, key);
            return Ok(());
        }
        // Only the run knows which of them came before.
        for exit in exits {
            let kind = self.nodes[exit].def.signature.output_kind();
            let signature = self.nodes[index].def.signature.clone();
            let need = signature.all_needs().iter().find(|need| need.name == local);
            if let (Some(kind), Some(need)) = (kind, need)
                && !need.takes(kind)
            {
                let name = &self.nodes[exit].def.name;
                return self.mismatch(index, &format!("the value of `{name}`"), kind, need);
            }
        }
        (self.nodes[index].takes, self.nodes[index].takes_last) = (Some(local), true);
        Ok(())
    }

    /// Checks that none of the steps that are piped may be left out, unless what takes their value
    /// can do without it.
    fn piped_for_sure(&self, index: usize, local: &str, exits: &[usize]) -> Result<()> {
        let def = &self.nodes[index].def;
        let optional = def.signature.all_needs().iter().any(|n| n.name == local && n.optional);
        let left_out = exits.iter().map(|exit| &self.nodes[*exit].def).find(|exit| {
            exit.condition.is_some() && !optional && !self.left.contains_key(&exit.output)
        });
        let Some(left_out) = left_out else { return Ok(()) };
        let why = format!("`{}` may be left out, and leaves nothing to pipe then", left_out.name);
        let error = Error::new(ErrorKind::Config, "pipeline", why).with("step", &def.name);
        Err(error.hint("take the value as an Option, or pass the step by with .bypass(..) instead"))
    }

    pub(super) fn mismatch(&self, index: usize, what: &str, kind: Kind, need: &Need) -> Result<()> {
        let why = format!("{what} is a {}, but is needed as a {}", kind.name, need.kind.name);
        let error = Error::new(ErrorKind::Config, "pipeline", why);
        let error = error.with("step", &self.nodes[index].def.name);
        Err(error.hint("make the types the same, or bind another value"))
    }

    /// Returns the steps that may be the last to run before what follows a step.
    pub(super) fn exits(&self, index: usize) -> Vec<usize> {
        let node = &self.nodes[index];
        let has = |label: &str| node.arms.iter().any(|arm| *arm.label == *label);
        let mut exits = Vec::new();
        if !(has("0") && has("1")) {
            exits.push(index);
        }
        for arm in &node.arms {
            let mut last = arm.to;
            while let Some(next) = self.nodes[last].next.filter(|next| Some(*next) != node.next) {
                last = next;
            }
            exits.extend(self.exits(last));
        }
        exits
    }

    /// Returns the input that takes what is piped: the one that is bound to `key` anyway, else the
    /// first that nothing else fills, else the only one.
    fn piped_to(&self, index: usize, key: Option<&String>) -> Result<String> {
        let def = &self.nodes[index].def;
        let refuse = |why: String, hint: String| {
            let error = Error::new(ErrorKind::Config, "pipeline", why).hint(hint);
            Err(error.with("step", &def.name))
        };
        if let Some(local) = key.and_then(|key| self.bound_to(index, key)) {
            return Ok(local);
        }
        let mut free = self.free(index);
        match (self.unfilled(index), free.next(), free.next()) {
            (Some(first), ..) => Ok(first),
            (None, None, _) => refuse(
                "it takes nothing to pipe into".into(),
                "let it take an argument, or say what it needs: .needs::<..>(\"name\")".into(),
            ),
            (None, Some(only), None) => Ok(only.name.clone()),
            (None, Some(first), Some(second)) => {
                let key = key.map_or("..", |key| key);
                refuse(
                    format!(
                        "nothing says which of its inputs is piped to: `{}`, `{}` and what else it \
                         takes are filled already",
                        first.name, second.name
                    ),
                    format!("bind the one you mean: .bind(\"{}\", \"{key}\")", first.name),
                )
            }
        }
    }

    /// Returns the input that is bound to a value already, by its name or by `StepDef::bind`.
    fn bound_to(&self, index: usize, key: &str) -> Option<String> {
        let def = &self.nodes[index].def;
        let bound = |need: &&Need| def.bindings.key(&need.name) == key;
        def.signature.all_needs().iter().find(bound).map(|need| need.name.clone())
    }

    /// Returns the inputs that are not bound to another name.
    fn free(&self, index: usize) -> impl Iterator<Item = &Need> {
        let def = &self.nodes[index].def;
        def.signature.all_needs().iter().filter(|need| def.bindings.key(&need.name) == need.name)
    }

    /// Returns the first input that nothing fills yet.
    fn unfilled(&self, index: usize) -> Option<String> {
        let mut free = self.free(index);
        free.find(|need| !self.left.contains_key(&need.name)).map(|need| need.name.clone())
    }

    /// Returns the input that takes what a jump brings: none if one is bound to it anyway, else the
    /// first that nothing else fills, else the first.
    fn taken_by(&self, index: usize, from: usize) -> Option<String> {
        if self.bound_to(index, &self.nodes[from].def.output).is_some() {
            return None;
        }
        self.unfilled(index).or_else(|| self.free(index).next().map(|need| need.name.clone()))
    }

    /// Notes the steps that a step may jump to, and what is there when it does.
    pub(super) fn note_jumps(&mut self, index: usize) -> Result<()> {
        if self.is_again {
            return Ok(());
        }
        for target in self.nodes[index].def.signature.targets().to_vec() {
            let to = self.target(index, &target)?;
            self.nodes[index].jumps.push(to);
            // Whoever was here before has left all that the way to it needs.
            if self.seen.contains(&to) && self.nodes[to].within == self.nodes[index].within {
                if self.nodes[to].takes.is_none() {
                    self.nodes[to].takes = self.taken_by(to, index);
                }
                continue;
            }
            let there = self.left.names_and(&self.nodes[index].def.output);
            let known = self.jumps.entry(to).or_insert_with(|| (index, there.clone()));
            known.1.keep(&there);
            self.nodes[to].takes = self.taken_by(to, index);
        }
        Ok(())
    }

    pub(super) fn target(&self, index: usize, target: &str) -> Result<usize> {
        let refuse = |why: String, hint: String| {
            let error = Error::new(ErrorKind::Config, "pipeline", why).hint(hint);
            Err(error.with("step", &self.nodes[index].def.name))
        };
        let Some(to) = self.places.get(target) else {
            let near = nearest(target, self.places.keys().map(|name| &**name));
            let hint = near.map_or_else(
                || "it jumps to steps of the same pipeline".into(),
                |near| format!("did you mean `{near}`?"),
            );
            let target = target.escape_debug();
            return refuse(format!("it may jump to `{target}`, which is no step here"), hint);
        };
        if self.nodes[*to].within != self.nodes[index].within {
            let why = format!("it may jump to `{target}`, out of or into a group");
            return refuse(why, "a jump stays among steps that run one after another".into());
        }
        Ok(*to)
    }

    /// Goes along the ways after jumps that leave something out. Where one comes to where another
    /// arrives, they go on together: each step is come to once, however many jumps there are.
    pub(super) fn jumps(&mut self) -> Result<()> {
        let mut jumps = std::mem::take(&mut self.jumps);
        let all = self.left.leave();
        self.is_again = true;
        let mut under_way: BTreeMap<usize, Point> = BTreeMap::new();
        // Steps are in the order in which they are come to.
        let next = |under_way: &BTreeMap<usize, Point>, jumps: &BTreeMap<usize, _>| {
            let arrives = jumps.first_key_value().map(|(at, _)| *at);
            let goes_on = under_way.first_key_value().map(|(at, _)| *at);
            arrives.into_iter().chain(goes_on).min()
        };
        while let Some(at) = next(&under_way, &jumps) {
            match (under_way.remove(&at), jumps.remove(&at)) {
                (Some(point), Some((from, names))) => {
                    self.left.go_to(point);
                    let lost = self.left.keep(&names).into_iter();
                    self.lost.extend(lost.map(|name| (name, from)));
                }
                (Some(point), None) => self.left.go_to(point),
                (None, Some((from, names))) => {
                    if under_way.is_empty() {
                        self.lost.clear();
                    }
                    self.first_jump = Some(from);
                    self.left.go_to(There::part_of(&all, &names));
                }
                (None, None) => {}
            }
            self.step(at, None)?;
            self.undo.clear();
            let point = self.left.leave();
            if let Some(next) = self.nodes[at].next {
                match under_way.get_mut(&next) {
                    Some(other) => other.meet(&point),
                    None => drop(under_way.insert(next, point)),
                }
            }
        }
        self.left.go_to(all);
        Ok(())
    }
}
