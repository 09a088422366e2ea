//! Random trees of steps, and the three ways to write them.

use railbus::{
    Evaluation, Failure, Flow, Pipeline, PipelineBuilder, StepDef, chain, parallel,
    step::{Input, Signature, Step, StepResult},
};
use std::sync::atomic::{AtomicU32, Ordering};

/// A small generator of numbers, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1))
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % n as u64).unwrap()
    }

    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What a step does on one of its visits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Does {
    Leaves,
    Nothing,
    Fails,
    Throws,
    Skips,
    Stops,
    Takes(String),
    /// A jump, and whether the step counts as failed.
    Jumps(String, bool),
}

/// A step: what it does on each visit (the last, from then on), and what ends the run.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) name: String,
    pub(crate) does: Vec<Does>,
    pub(crate) targets: Vec<String>,
    pub(crate) stops: [Option<bool>; 3],
    pub(crate) bypassed: bool,
    pub(crate) left_out: bool,
    /// How often others get their turn while it runs.
    pub(crate) yields: usize,
}

/// A step or a group, with its branches.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) what: What,
    pub(crate) arms: Vec<(String, Line)>,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Leaf(Leaf),
    Group(Vec<Line>, Evaluation),
}

#[derive(Clone, Debug)]
pub(crate) struct Line(pub(crate) Vec<Unit>);

#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) line: Line,
    pub(crate) is_lenient: bool,
}

struct Step1(Leaf, AtomicU32);

impl Leaf {
    pub(crate) fn on_visit(&self, visit: usize) -> &Does {
        &self.does[visit.min(self.does.len() - 1)]
    }

    pub(crate) fn def(&self) -> StepDef {
        let [success, error, exception] = self.stops;
        let mut def = StepDef::of(Step1(self.clone(), AtomicU32::new(0)));
        if let Some(stop) = success {
            def = def.stop_on_success(stop);
        }
        if let Some(stop) = error {
            def = def.stop_on_error(stop);
        }
        if let Some(stop) = exception {
            def = def.stop_on_exception(stop);
        }
        if self.bypassed {
            def = def.bypass(|_| true);
        }
        if self.left_out { def.only_if(|_| false) } else { def }
    }
}

impl Step for Step1 {
    fn signature(&self) -> Signature {
        let signature = Signature::new(self.0.name.clone());
        self.0.targets.iter().fold(signature, |signature, to| signature.goto(to))
    }

    fn run<'a, 'b, 'c>(
        &'a self,
        _: Input<'b>,
    ) -> std::pin::Pin<Box<dyn Future<Output = StepResult> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        let visit = self.1.fetch_add(1, Ordering::SeqCst) as usize;
        let name = self.0.name.clone();
        let came = match self.0.on_visit(visit) {
            Does::Leaves => Ok(Flow::next(name)),
            Does::Nothing => Ok(Flow::Next(None)),
            Does::Fails => Err(Failure::new(format!("{name} says no")).into()),
            Does::Throws => Err(format!("{name} is broken").into()),
            Does::Skips => Ok(Flow::Skip),
            Does::Stops => Ok(Flow::stop(name)),
            Does::Takes(label) => Ok(Flow::branch(label.clone(), name)),
            Does::Jumps(to, false) => Ok(Flow::goto(to, name).into()),
            Does::Jumps(to, true) => Ok(Flow::goto(to, name).failed().into()),
        };
        let yields = self.0.yields;
        Box::pin(async move {
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            came
        })
    }
}

const LABELS: [&str; 2] = ["late", "gold"];

impl Tree {
    pub(crate) fn random(random: &mut Random) -> Self {
        let mut names = 0;
        let mut line = Line::random(random, 0, &mut names);
        line.steer(random);
        Self { line, is_lenient: random.once_in(2) }
    }

    pub(crate) fn builder(&self) -> PipelineBuilder {
        let builder = Pipeline::new("p");
        let builder = if self.is_lenient { builder.lenient() } else { builder };
        self.line.0.iter().fold(builder, |mut builder, unit| {
            builder = builder.step(unit.bare());
            for (label, line) in &unit.arms {
                builder = match label.as_str() {
                    "0" => builder.on_failure(line.def()),
                    "1" => builder.on_success(line.def()),
                    label => builder.on_label(label, line.def()),
                };
            }
            builder
        })
    }

    pub(crate) fn all(&self) -> Vec<&Leaf> {
        let mut all = Vec::new();
        self.line.collect(&mut all);
        all
    }

    pub(crate) fn steps(&self) -> String {
        let all = self.all().into_iter().map(|leaf| format!("{leaf:?}"));
        let lenient = if self.is_lenient { "lenient\n" } else { "" };
        format!("{lenient}{}", all.collect::<Vec<_>>().join("\n"))
    }
}

impl Line {
    fn random(random: &mut Random, depth: usize, names: &mut usize) -> Self {
        let units = 1 + random.below(if depth == 0 { 5 } else { 3 });
        Self((0..units).map(|_| Unit::random(random, depth, names)).collect())
    }

    /// Lets some steps jump to others of the line that are named.
    fn steer(&mut self, random: &mut Random) {
        let known = self.0.iter().filter_map(|unit| match &unit.what {
            What::Leaf(leaf) => Some(leaf.name.clone()),
            What::Group(..) => None,
        });
        let known: Vec<String> = known.collect();
        self.jump(random, &known);
    }

    fn jump(&mut self, random: &mut Random, known: &[String]) {
        for unit in &mut self.0 {
            match &mut unit.what {
                What::Leaf(leaf) if !known.is_empty() && random.once_in(4) => {
                    let to = known[random.below(known.len())].clone();
                    leaf.targets.push(to.clone());
                    // Not for ever: what comes after the jumps does not jump.
                    let jumps = 1 + random.below(2);
                    let failed = random.once_in(3);
                    leaf.does.splice(0..0, vec![Does::Jumps(to, failed); jumps]);
                }
                What::Leaf(_) => {}
                // Members jump among themselves only.
                What::Group(members, _) => members.iter_mut().for_each(|line| line.steer(random)),
            }
            unit.arms.iter_mut().for_each(|(_, line)| line.jump(random, known));
        }
    }

    pub(crate) fn def(&self) -> StepDef {
        chain(self.0.iter().map(Unit::whole).collect::<Vec<_>>())
    }

    fn name(&self) -> String {
        match &self.0[..] {
            [only] => only.name(),
            units => {
                let names: Vec<String> = units.iter().map(Unit::name).collect();
                format!("{{{}}}", names.join(" -> "))
            }
        }
    }

    fn member(&self) -> StepDef {
        match &self.0[..] {
            [only] => only.whole(),
            _ => self.def(),
        }
    }

    pub(crate) fn text(&self) -> String {
        self.0.iter().map(Unit::text).collect::<Vec<_>>().join(" -> ")
    }

    pub(crate) fn collect<'a>(&'a self, all: &mut Vec<&'a Leaf>) {
        for unit in &self.0 {
            match &unit.what {
                What::Leaf(leaf) => all.push(leaf),
                What::Group(members, _) => members.iter().for_each(|line| line.collect(all)),
            }
            unit.arms.iter().for_each(|(_, line)| line.collect(all));
        }
    }
}

impl Unit {
    fn random(random: &mut Random, depth: usize, names: &mut usize) -> Self {
        let is_group = depth < 3 && random.once_in(4);
        let mut labels = Vec::new();
        let mut branch = |label: &str, random: &mut Random| {
            if depth < 3 && random.once_in(4) {
                labels.push(label.to_owned());
            }
        };
        branch("0", random);
        branch("1", random);
        if !is_group {
            LABELS.iter().for_each(|label| branch(label, random));
        }
        let what = match is_group {
            true => {
                let members =
                    (0..2 + random.below(2)).map(|_| Line::random(random, depth + 1, names));
                What::Group(members.collect(), evaluation(random))
            }
            false => What::Leaf(Leaf::random(random, &labels, names)),
        };
        let arms = labels.into_iter().map(|label| (label, Line::random(random, depth + 1, names)));
        let arms = arms.collect();
        Self { what, arms }
    }

    pub(crate) fn without_arms(&self) -> Self {
        Self { what: self.what.clone(), arms: Vec::new() }
    }

    fn bare(&self) -> StepDef {
        match &self.what {
            What::Leaf(leaf) => leaf.def(),
            What::Group(members, evaluation) => {
                let members: Vec<StepDef> = members.iter().map(Line::member).collect();
                railbus::IntoStep::into_step(parallel(members).evaluate(*evaluation))
            }
        }
    }

    /// As [`Unit::bare`], with its branches: a pipeline's builder alone gives a step branches.
    fn whole(&self) -> StepDef {
        let arms = self.arms.iter().map(|(label, line)| (label.clone(), line.def()));
        arms.fold(self.bare(), |def, (label, line)| def.on_label(label, line))
    }

    /// Returns the name that the engine gives a group.
    pub(crate) fn name(&self) -> String {
        match &self.what {
            What::Leaf(leaf) => leaf.name.clone(),
            What::Group(members, _) => {
                let names: Vec<String> = members.iter().map(Line::name).collect();
                format!("{{{}}}", names.join(" || "))
            }
        }
    }

    fn text(&self) -> String {
        let arm = |(label, line): &(String, Line)| format!("{label} -> {}", line.text());
        let arms = self.arms.iter().map(arm).collect::<Vec<_>>().join(", ");
        let arms = if arms.is_empty() { String::new() } else { format!("({arms})") };
        match &self.what {
            What::Leaf(leaf) => format!("{}{arms}", leaf.name),
            What::Group(members, evaluation) => {
                let members = members.iter().map(|line| match &line.0[..] {
                    [only] => only.text(),
                    _ => format!("{{{}}}", line.text()),
                });
                format!("{{{}}}[{evaluation}]{arms}", members.collect::<Vec<_>>().join(" || "))
            }
        }
    }
}

impl Leaf {
    fn random(random: &mut Random, labels: &[String], names: &mut usize) -> Self {
        *names += 1;
        let named: Vec<&String> = labels.iter().filter(|label| label.len() > 1).collect();
        let visits = 1 + random.below(3);
        let does = (0..visits).map(|_| match random.below(12) {
            0 | 1 => Does::Fails,
            2 => Does::Throws,
            3 if random.once_in(2) => Does::Stops,
            4 => Does::Nothing,
            5 => Does::Skips,
            6 | 7 if !named.is_empty() => Does::Takes(named[random.below(named.len())].clone()),
            8 if random.once_in(4) => Does::Takes("nowhere".into()),
            _ => Does::Leaves,
        });
        let does = does.collect();
        let mut stop = || random.once_in(6).then(|| random.once_in(2));
        let stops = [stop(), stop(), stop()];
        let (bypassed, left_out) = (random.once_in(12), random.once_in(12));
        let (name, targets) = (format!("s{names}"), Vec::new());
        let yields = random.below(4);
        Self { name, does, targets, stops, bypassed, left_out, yields }
    }
}

fn evaluation(random: &mut Random) -> Evaluation {
    use Evaluation::{All, Any, AtLeast, Majority, NoneFailed, NotAllFailed, Percent};
    let all = [All, NoneFailed, Any, NotAllFailed, AtLeast(1), AtLeast(2), Percent(50), Majority];
    all[random.below(all.len())]
}
