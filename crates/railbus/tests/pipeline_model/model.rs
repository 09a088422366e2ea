//! What a run of a tree of steps comes to, by a small interpreter that knows no plan.

use crate::tree::{Does, Leaf, Line, Tree, Unit, What};
use std::{collections::HashMap, fmt::Write as _};

/// How far a line came.
enum End {
    Done,
    Ended,
    Jump(String),
}

#[derive(Clone, PartialEq)]
struct Wrong {
    is_exception: bool,
    line: String,
}

/// A line of steps under way.
#[derive(Default)]
struct Lane {
    store: Vec<String>,
    trail: Vec<(String, &'static str)>,
    failed: Option<Wrong>,
    // The step, the reason, whether it says so itself, and whether nothing was cut off.
    stopped: Option<(String, &'static str, bool, bool)>,
}

impl Lane {
    fn keep(&mut self, name: &str) {
        if !self.store.iter().any(|known| known == name) {
            self.store.push(name.to_owned());
        }
    }

    fn fail(&mut self, wrong: Wrong) {
        if self.failed.as_ref().is_none_or(|known| !known.is_exception && wrong.is_exception) {
            self.failed = Some(wrong);
        }
    }
}

pub(crate) struct Model {
    is_lenient: bool,
    visits: HashMap<String, usize>,
}

impl Model {
    /// Returns what a run of the tree comes to, as the test writes it.
    pub(crate) fn run(tree: &Tree) -> String {
        let mut model = Self { is_lenient: tree.is_lenient, visits: HashMap::new() };
        let mut lane = Lane::default();
        model.lane(&tree.line, &mut lane);
        let mut text = String::new();
        let path: Vec<&str> = lane.trail.iter().map(|(name, _)| name.as_str()).collect();
        writeln!(text, "path: {}", path.join(" ")).unwrap();
        for Leaf { name, .. } in tree.all() {
            let visits = lane.trail.iter().filter(|(known, _)| known == name);
            let status = visits.clone().next_back().map_or("not_run", |(_, status)| *status);
            writeln!(text, "{name}: {status} {}", visits.count()).unwrap();
        }
        let status = match (&lane.failed, &lane.stopped) {
            (Some(wrong), _) if wrong.is_exception => "exception",
            (Some(_), _) => "failure",
            (None, None) => "success",
            (None, Some((_, "Success", _, true))) => "success",
            (None, Some(_)) => "stopped",
        };
        let stopped = lane.stopped.map(|(step, reason, ..)| format!("{step} {reason}"));
        let error = lane.failed.map(|wrong| wrong.line);
        writeln!(text, "{status} {stopped:?} {error:?}").unwrap();
        writeln!(text, "store: {}", lane.store.join(" ")).unwrap();
        text
    }

    /// Runs a line with all that jumps lead to.
    fn lane(&mut self, line: &Line, lane: &mut Lane) {
        let mut from = 0;
        while let End::Jump(to) = self.line(&line.0[from..], true, lane) {
            let named = |unit: &Unit| matches!(&unit.what, What::Leaf(leaf) if leaf.name == to);
            from = line.0.iter().position(named).unwrap();
        }
    }

    fn line(&mut self, units: &[Unit], at_end: bool, lane: &mut Lane) -> End {
        for (place, unit) in units.iter().enumerate() {
            match self.unit(unit, at_end && place + 1 == units.len(), lane) {
                End::Done => {}
                end => return end,
            }
        }
        End::Done
    }

    fn unit(&mut self, unit: &Unit, is_last: bool, lane: &mut Lane) -> End {
        match &unit.what {
            What::Leaf(leaf) => self.leaf(leaf, unit, is_last, lane),
            What::Group(members, evaluation) => {
                let mut lanes = Vec::new();
                for line in members {
                    let mut member = Lane { store: lane.store.clone(), ..Lane::default() };
                    self.lane(line, &mut member);
                    lanes.push(member);
                }
                let well = lanes.iter().filter(|member| member.failed.is_none()).count();
                let succeeded = evaluation.succeeds(well, lanes.len());
                let mut worst = Lane::default();
                for (member, line) in lanes.into_iter().zip(members) {
                    let mut leaves = Vec::new();
                    line.collect(&mut leaves);
                    for leaf in leaves {
                        if member.store.contains(&leaf.name) {
                            lane.keep(&leaf.name);
                        }
                    }
                    lane.trail.extend(member.trail);
                    let ends = member.stopped.filter(|stopped| stopped.2);
                    if let Some((step, reason, told, _)) = ends.filter(|_| lane.stopped.is_none()) {
                        lane.stopped = Some((step, reason, told, false));
                        if let Some(wrong) = member.failed.clone().filter(|_| succeeded) {
                            lane.fail(wrong);
                        }
                    }
                    member.failed.into_iter().for_each(|wrong| worst.fail(wrong));
                }
                match (succeeded, lane.stopped.is_some()) {
                    (true, true) => End::Ended,
                    (true, false) => self.arm(unit, "1", is_last, lane),
                    (false, true) => {
                        worst.failed.into_iter().for_each(|wrong| lane.fail(wrong));
                        End::Ended
                    }
                    (false, false) => {
                        let wrong = worst.failed.unwrap();
                        self.wrong(unit, &unit.name(), wrong, [None; 3], is_last, lane)
                    }
                }
            }
        }
    }

    fn leaf(&mut self, leaf: &Leaf, unit: &Unit, is_last: bool, lane: &mut Lane) -> End {
        let name = &leaf.name;
        let mut note = |status| lane.trail.push((name.clone(), status));
        if leaf.bypassed {
            note("skipped");
            return self.arm(unit, "1", is_last, lane);
        }
        if leaf.left_out {
            note("skipped");
            return End::Done;
        }
        let visit = self.visits.entry(name.clone()).or_default();
        let does = leaf.on_visit(*visit);
        *visit += 1;
        let says = |is_exception, line| Wrong { is_exception, line };
        let wrong = match does {
            Does::Leaves | Does::Nothing => {
                note("success");
                if *does == Does::Leaves {
                    lane.keep(name);
                }
                if leaf.stops[0] == Some(true) {
                    let nothing_lost = is_last && !unit.arms.iter().any(|(label, _)| label == "1");
                    lane.stopped = Some((name.clone(), "Success", true, nothing_lost));
                    return End::Ended;
                }
                return self.arm(unit, "1", is_last, lane);
            }
            Does::Skips => {
                note("skipped");
                return End::Done;
            }
            Does::Stops => {
                note("success");
                lane.keep(name);
                lane.stopped = Some((name.clone(), "Asked", true, false));
                return End::Ended;
            }
            Does::Jumps(to, failed) => {
                note(if *failed { "failure" } else { "success" });
                lane.keep(name);
                return End::Jump(to.clone());
            }
            Does::Takes(label) if unit.arms.iter().any(|(known, _)| known == label) => {
                note("success");
                lane.keep(name);
                return self.arm(unit, label, is_last, lane);
            }
            Does::Takes(label) => {
                let known: Vec<&str> = unit.arms.iter().map(|(label, _)| label.as_str()).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                says(true, format!("it takes branch `{label}`, but has: {known}"))
            }
            Does::Fails => says(false, format!("{name} says no")),
            Does::Throws => says(true, format!("{name} is broken")),
        };
        note(if wrong.is_exception { "exception" } else { "failure" });
        self.wrong(unit, name, wrong, leaf.stops, is_last, lane)
    }

    fn wrong(
        &mut self,
        unit: &Unit,
        name: &str,
        wrong: Wrong,
        stops: [Option<bool>; 3],
        is_last: bool,
        lane: &mut Lane,
    ) -> End {
        if unit.arms.iter().any(|(label, _)| label == "0") {
            return self.arm(unit, "0", is_last, lane);
        }
        let (says, reason) = match wrong.is_exception {
            false => (stops[1], "Failure"),
            true => (stops[2], "Exception"),
        };
        lane.fail(wrong);
        if says.unwrap_or(!self.is_lenient) {
            lane.stopped = Some((name.to_owned(), reason, says == Some(true), false));
            return End::Ended;
        }
        End::Done
    }

    fn arm(&mut self, unit: &Unit, label: &str, is_last: bool, lane: &mut Lane) -> End {
        match unit.arms.iter().find(|(known, _)| known == label) {
            Some((_, line)) => self.line(&line.0, is_last, lane),
            None => End::Done,
        }
    }
}
