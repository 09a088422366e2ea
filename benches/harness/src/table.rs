//! Measures rows and prints what they came to.

use crate::{
    Arguments, Contender, Goal, Result, Row, Samples, Settings,
    measure::{calibrate, turn},
    row::Role,
    spread::Spread,
};
use serde_json::json;

/// What rows are written on, one after another.
#[derive(Debug)]
pub struct Sheet {
    settings: Settings,
    json: bool,
    only: Option<String>,
}

/// What a contender came to over all rounds.
struct Came {
    name: &'static str,
    role: Role,
    nanos: Spread,
    cpu: Option<Spread>,
    // Of each round's time to the base's.
    ratio: Option<Spread>,
}

impl Sheet {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let Arguments { settings, json, only, .. } = arguments.clone();
        Self { settings, json, only }
    }

    /// Returns how often and how long everybody takes turns.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Prints a row that was measured elsewhere, a line for each of what was looked at.
    pub fn tell(
        &mut self,
        id: &str,
        work: &str,
        goal: &str,
        lines: &[(&str, String)],
        verdict: &str,
    ) {
        if self.json {
            for (who, came) in lines {
                let line = json!({
                    "row": id, "work": work, "goal": goal, "who": who, "came": came, "verdict": verdict,
                });
                println!("{line}");
            }
            return;
        }
        println!("{id}  {work}; goal: {goal}   {verdict}");
        for (who, came) in lines {
            println!("    {who:<28}{came}");
        }
        println!();
    }

    /// Measures a row: everybody once in each round, and prints it.
    ///
    /// # Errors
    /// Returns a contender's error, and one if events did not arrive, or more than once.
    pub fn measure(&mut self, mut row: Row<'_>) -> Result<()> {
        if let Some(part) = &self.only {
            row.contenders.retain(|contender| contender.name.contains(part.as_str()));
        }
        let mut times = Vec::new();
        for contender in &mut row.contenders {
            times.push(calibrate(contender, &self.settings)?);
        }
        let empty = |c: &Contender<'_>| {
            let (nanos, cpu) = (Vec::new(), Vec::new());
            Samples { name: c.name, role: c.role, nanos, cpu }
        };
        let mut samples: Vec<_> = row.contenders.iter().map(empty).collect();
        for _ in 0..self.settings.rounds {
            for (i, contender) in row.contenders.iter_mut().enumerate() {
                let timed = turn(contender, times[i])?;
                samples[i].nanos.push(timed.each(times[i]));
                samples[i].cpu.push(timed.cpu_each(times[i]));
            }
        }
        samples.append(&mut row.samples);
        let base = samples.iter().find(|s| s.role == Role::Base);
        let results: Vec<_> = samples.iter().map(|s| Came::of(s, base)).collect();
        match self.json {
            true => print_json(&row, &results),
            false => print_table(&row, &results),
        }
        Ok(())
    }
}

impl Came {
    fn of(samples: &Samples, base: Option<&Samples>) -> Self {
        let base = base.filter(|base| base.role != samples.role);
        let ratios = |base: &Samples| {
            Spread::of(samples.nanos.iter().zip(&base.nanos).map(|(mine, theirs)| mine / theirs))
        };
        Self {
            name: samples.name,
            role: samples.role,
            nanos: Spread::of(samples.nanos.iter().copied()),
            cpu: (!samples.cpu.is_empty()).then(|| Spread::of(samples.cpu.iter().copied())),
            ratio: base.map(ratios),
        }
    }
}

/// Says what is aimed at.
fn goal(goal: Goal) -> String {
    match goal {
        Goal::Times(times) => format!("at most {times} times the base"),
        Goal::Rate(rate) => format!("at least {rate} of the base's rate"),
        Goal::Nanos(nanos) => format!("at most {}", shown(nanos)),
        Goal::Nothing => "none".into(),
    }
}

fn verdict(aim: Goal, came: &Came) -> Option<&'static str> {
    if came.role != Role::Subject {
        return None;
    }
    match aim {
        Goal::Times(times) => came.ratio.map(|r| r.at_most(times)),
        Goal::Rate(rate) => came.ratio.map(|r| r.at_most(1.0 / rate)),
        Goal::Nanos(nanos) => Some(came.nanos.at_most(nanos)),
        Goal::Nothing => None,
    }
}

/// Returns a time for reading.
fn shown(nanos: f64) -> String {
    match nanos {
        n if n >= 1e9 => format!("{:.2} s", n / 1e9),
        n if n >= 1e7 => format!("{:.1} ms", n / 1e6),
        n if n >= 1e4 => format!("{:.1} µs", n / 1e3),
        n if n >= 100.0 => format!("{n:.0} ns"),
        n => format!("{n:.1} ns"),
    }
}

fn print_table(row: &Row<'_>, results: &[Came]) {
    println!("{}  {}; goal: {}", row.id, row.work, goal(row.goal));
    for came in results {
        let Came { name, nanos, cpu, ratio, .. } = came;
        // A rate is compared the other way round.
        let compared = ratio.map(|r| match row.goal {
            Goal::Rate(_) => format!(
                "{:.2} of the rate ({:.2}..{:.2})",
                1.0 / r.median,
                1.0 / r.high,
                1.0 / r.low
            ),
            _ => format!("{:.2} times ({:.2}..{:.2})", r.median, r.low, r.high),
        });
        let line = format!(
            "    {name:<28}{:>9}  {:<20}{:>14}  {:<27} {}",
            shown(nanos.median),
            format!("{}..{}", shown(nanos.min), shown(nanos.max)),
            cpu.map(|cpu| format!("{:.3} CPU s/M", cpu.median / 1e3)).unwrap_or_default(),
            compared.unwrap_or_default(),
            verdict(row.goal, came).unwrap_or_default()
        );
        println!("{}", line.trim_end());
    }
    println!();
}

fn print_json(row: &Row<'_>, results: &[Came]) {
    let spread = |s: &Spread| json!([s.min, s.low, s.median, s.high, s.max]);
    for came in results {
        let line = json!({
            "row": row.id,
            "work": row.work,
            "goal": goal(row.goal),
            "who": came.name,
            "ns": spread(&came.nanos),
            "cpu_ns": came.cpu.as_ref().map(spread),
            "ratio": came.ratio.as_ref().map(spread),
            "verdict": verdict(row.goal, came),
        });
        println!("{line}");
    }
}
