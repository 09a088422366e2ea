//! Drawing pipelines and runs: Mermaid, DOT, and the text by which two graphs are compared.

use super::{
    parts::{How, Node, Pipeline, Plan, Sub, Work},
    report::{RunReport, StepReport, Visit, Went},
    status::StepStatus,
};
use std::{collections::HashSet, fmt::Write as _, sync::Arc};

/// A line from one step to another.
struct Edge {
    from: usize,
    to: usize,
    label: String,
    is_jump: bool,
}

impl Pipeline {
    /// Draws the graph as a Mermaid flowchart: steps as boxes, groups as frames, branches with
    /// their labels, declared jumps dotted.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef};
    ///
    /// let says = |name: &str| StepDef::value(name, |_| 1);
    /// let pipeline = Pipeline::new("p").step(says("a")).on_failure(says("b")).step(says("c")).build()?;
    /// assert_eq!(pipeline.mermaid(), "flowchart TD
    ///     s0[\"a\"]
    ///     s1[\"b\"]
    ///     s2[\"c\"]
    ///     s0 --> s2
    ///     s0 -- \"0\" --> s1
    ///     s1 --> s2
    /// ");
    /// assert!(pipeline.dot().starts_with("digraph \"p\" {"));
    /// # Ok::<(), railbus::Error>(())
    /// ```
    #[must_use]
    pub fn mermaid(&self) -> String {
        mermaid(&self.0, None)
    }

    /// Draws the graph in the DOT language of Graphviz, as [`Pipeline::mermaid`] does.
    #[must_use]
    pub fn dot(&self) -> String {
        dot(&self.0, None)
    }

    /// Returns the graph as text, a line a step: what two versions of a pipeline are compared by.
    pub(crate) fn shape(&self) -> &Arc<str> {
        self.0.shape.get_or_init(|| shape(&self.0).into())
    }
}

impl RunReport {
    /// Draws the run as a Mermaid flowchart: the graph, with what became of each step, how long it
    /// took, and the way that was taken.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef, store};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pipeline = Pipeline::new("p").step(StepDef::value("a", |_| 1)).build()?;
    /// let report = pipeline.run(store! {}).await;
    /// assert!(report.mermaid().contains("a<br/>success, "));
    /// assert!(report.dot().contains("a\\nsuccess, "));
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn mermaid(&self) -> String {
        mermaid(&self.plan, Some(self))
    }

    /// Draws the run in the DOT language of Graphviz, as [`RunReport::mermaid`] does.
    #[must_use]
    pub fn dot(&self) -> String {
        dot(&self.plan, Some(self))
    }

    /// Returns which lines the run went along: from where, to where, and whether by a jump.
    fn taken(&self) -> HashSet<(usize, usize, bool)> {
        let line = |pair: &[Visit]| {
            let is_jump = matches!(pair[0].went, Went::Goto(_));
            (pair[0].node as usize, pair[1].node as usize, is_jump)
        };
        self.trail.windows(2).map(line).collect()
    }
}

/// Returns all lines of a graph, in the order of the steps they begin at.
fn edges(plan: &Plan) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (from, node) in plan.nodes.iter().enumerate() {
        let mut add = |to: usize, label: &str, is_jump| {
            edges.push(Edge { from, to, label: label.into(), is_jump });
        };
        if let Some(next) = node.next.filter(|_| !node.is_parted()) {
            add(next, "", false);
        }
        node.arms.iter().for_each(|arm| add(arm.to, &arm.label, false));
        node.jumps.iter().for_each(|to| add(*to, "goto", true));
    }
    edges
}

impl Node {
    /// Tells whether every way from it is a branch.
    fn is_parted(&self) -> bool {
        let has = |label: &str| self.arms.iter().any(|arm| *arm.label == *label);
        has("0") && has("1")
    }

    /// Returns what is drawn in its box, a line each.
    fn lines(&self, line: Option<&StepReport>) -> Vec<String> {
        let def = &self.def;
        let more = match &def.work {
            Work::Sub(Sub { how: How::Each(each), .. }) => format!(" for each of {}", each.items),
            Work::Sub(Sub { how: How::Repeat(_), .. }) => " again and again".into(),
            Work::Sub(Sub { how: How::Nested, .. }) => " (pipeline)".into(),
            Work::Parallel(group) => format!(" {}", group.evaluation),
            _ => String::new(),
        };
        let mut lines = vec![format!("{}{more}", def.name)];
        if let Some(StepReport { status, tries, duration, visits, .. }) = line {
            let mut became = format!("{status}");
            if *status != StepStatus::NotRun {
                let _ = write!(became, ", {:.3} s", duration.as_secs_f64());
            }
            if *tries > 1 {
                let _ = write!(became, ", {tries} tries");
            }
            if *visits > 1 {
                let _ = write!(became, ", {visits} visits");
            }
            lines.push(became);
        }
        lines
    }
}

fn mermaid(plan: &Plan, run: Option<&RunReport>) -> String {
    let mut text = String::from("flowchart TD\n");
    let mut frames: Vec<(usize, usize)> = Vec::new();
    let mut reports = run.map(|run| run.steps().iter());
    for (index, node) in plan.nodes.iter().enumerate() {
        close(&mut text, &mut frames, index, "end");
        let pad = 4 * (frames.len() + 1);
        let report = reports.as_mut().filter(|_| node.is_named()).and_then(Iterator::next);
        let lines = node.lines(report);
        let lines: Vec<String> = lines.iter().map(|line| escaped(line, "#quot;", "")).collect();
        let _ = writeln!(text, "{:pad$}s{index}[\"{}\"]", "", lines.join("<br/>"));
        if let Some(end) = node.members.last().map(|member| member.end) {
            let _ = writeln!(text, "{:pad$}subgraph g{index}[\" \"]", "");
            frames.push((index, end));
        }
    }
    close(&mut text, &mut frames, usize::MAX, "end");
    let edges = edges(plan);
    let taken = run.map(RunReport::taken).unwrap_or_default();
    for Edge { from, to, label, is_jump } in &edges {
        // A text stands within its line, which begins as it ends.
        let (begins, line) = match (is_jump, taken.contains(&(*from, *to, *is_jump))) {
            (_, true) => ("==", "==>"),
            (true, false) => ("-.", ".->"),
            (false, false) => ("--", "-->"),
        };
        let label = escaped(label, "#quot;", "");
        let label = if label.is_empty() { label } else { format!("{begins} \"{label}\" ") };
        let _ = writeln!(text, "    s{from} {label}{line} s{to}");
    }
    members(plan, |group, first| {
        let _ = writeln!(text, "    s{group} --> s{first}");
    });
    text
}

/// Ends the frames that a step is not in any more.
fn close(text: &mut String, frames: &mut Vec<(usize, usize)>, index: usize, end: &str) {
    while let Some((_, last)) = frames.last().filter(|(_, last)| *last <= index) {
        let _ = last;
        frames.pop();
        let pad = 4 * (frames.len() + 1);
        let _ = writeln!(text, "{:pad$}{end}", "");
    }
}

/// Calls `draw` for each member of a group, with the group and the member's first step.
fn members(plan: &Plan, mut draw: impl FnMut(usize, usize)) {
    for (index, node) in plan.nodes.iter().enumerate() {
        node.members.iter().for_each(|member| draw(index, member.start));
    }
}

fn dot(plan: &Plan, run: Option<&RunReport>) -> String {
    let mut text = format!("digraph \"{}\" {{\n", escaped(&plan.name, "\\\"", "\\\\"));
    text.push_str("    node [shape=box, fontname=Helvetica];\n");
    let mut frames: Vec<(usize, usize)> = Vec::new();
    let mut reports = run.map(|run| run.steps().iter());
    for (index, node) in plan.nodes.iter().enumerate() {
        close(&mut text, &mut frames, index, "}");
        let pad = 4 * (frames.len() + 1);
        let report = reports.as_mut().filter(|_| node.is_named()).and_then(Iterator::next);
        let lines = node.lines(report);
        let lines: Vec<String> = lines.iter().map(|line| escaped(line, "\\\"", "\\\\")).collect();
        let _ = writeln!(text, "{:pad$}s{index} [label=\"{}\"];", "", lines.join("\\n"));
        if let Some(end) = node.members.last().map(|member| member.end) {
            let _ = writeln!(text, "{:pad$}subgraph cluster_{index} {{", "");
            frames.push((index, end));
        }
    }
    close(&mut text, &mut frames, usize::MAX, "}");
    let edges = edges(plan);
    let taken = run.map(RunReport::taken).unwrap_or_default();
    for Edge { from, to, label, is_jump } in &edges {
        let mut says = Vec::new();
        if !label.is_empty() {
            says.push(format!("label=\"{}\"", escaped(label, "\\\"", "\\\\")));
        }
        if *is_jump {
            says.push("style=dotted".into());
        }
        if taken.contains(&(*from, *to, *is_jump)) {
            says.push("penwidth=3".into());
        }
        let says = if says.is_empty() { String::new() } else { format!(" [{}]", says.join(", ")) };
        let _ = writeln!(text, "    s{from} -> s{to}{says};");
    }
    members(plan, |group, first| {
        let _ = writeln!(text, "    s{group} -> s{first};");
    });
    text.push_str("}\n");
    text
}

fn escaped(text: &str, quote: &str, backslash: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str(quote),
            '\\' if !backslash.is_empty() => out.push_str(backslash),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

fn shape(plan: &Plan) -> String {
    let mut text =
        format!("pipeline {}{}\n", plan.name, if plan.lenient { " lenient" } else { "" });
    for node in &plan.nodes {
        let def = &node.def;
        let name = |index: usize| &*plan.nodes[index].def.name;
        let _ = write!(text, "{}", def.name);
        for need in def.signature.all_needs() {
            let _ = write!(text, " <{}", def.bindings.key(&need.name));
        }
        let _ = write!(text, " >{}", def.output);
        let stops = [
            (def.stops.success, "success"),
            (def.stops.error, "error"),
            (def.stops.exception, "exception"),
        ];
        for (stop, what) in stops {
            if let Some(stop) = stop {
                let _ = write!(text, " stop_on_{what}:{stop}");
            }
        }
        let says = [
            (def.bypass.is_some(), "bypass"),
            (def.condition.is_some(), "only_if"),
            (def.once.is_some(), "once"),
        ];
        says.iter().filter(|(says, _)| *says).for_each(|(_, what)| {
            let _ = write!(text, " {what}");
        });
        for arm in &node.arms {
            let _ = write!(text, " {}:{}", arm.label, name(arm.to));
        }
        for target in def.signature.targets() {
            let _ = write!(text, " goto:{target}");
        }
        if let Work::Parallel(group) = &def.work {
            let firsts = node.members.iter().map(|member| name(member.start));
            let firsts = firsts.collect::<Vec<_>>().join(",");
            let _ = write!(text, " [{}] of {firsts}", group.evaluation);
        }
        if let Work::Sub(Sub { how, body: super::parts::Body::Built(inner) }) = &def.work {
            let what = match how {
                How::Nested => "runs".to_owned(),
                How::Each(each) => format!(
                    "for each {} of {} [{}]{}{}",
                    each.item.as_deref().unwrap_or_default(),
                    each.items,
                    each.evaluation,
                    if each.is_fail_fast { " fail-fast" } else { "" },
                    if each.keeps { "" } else { " forgotten" },
                ),
                How::Repeat(repeat) => format!(
                    "{} times{}{}{}",
                    repeat.times,
                    if repeat.goes_on.is_some() { " as long as" } else { "" },
                    if repeat.until.is_some() { " until" } else { "" },
                    if repeat.is_fresh { " fresh" } else { "" },
                ),
            };
            let inside = inner.shape().lines().collect::<Vec<_>>().join("; ");
            let _ = write!(text, " {what} {{{inside}}}");
        }
        let next = node.next.map_or("end", |next| name(next));
        let _ = writeln!(text, " -> {next}");
    }
    text
}
