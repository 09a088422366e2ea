//! The `[pipelines.NAME]` tables of an app file.

use super::{
    make,
    spec::{PipelineSpec, StepSpec},
    steps::named,
    table::{Field, Table, suggest},
    values::{from_folder, whole},
};
use crate::{
    error::Error,
    pipeline::{
        Steps,
        text::{FlowError, Sequence, is_name, parse, unresolved},
    },
    text_file::FLOWS,
};
use std::{borrow::Cow, path::Path};

/// Reads all pipelines, whose flows name `steps`; returns with them every name that is declared,
/// also of those with mistakes. Those whose steps are all `known` are built, to see if they can be.
pub(super) fn read<'a>(
    root: &Table<'a>,
    steps: &[&str],
    known: &[StepSpec],
    folder: &Path,
) -> (Vec<PipelineSpec>, Vec<&'a str>) {
    let tables = named(root, "pipelines", "write [pipelines.NAME], with a flow");
    // Where a step is wrong, that has been noted.
    let known = make::steps(known, folder).unwrap_or_default();
    let pipelines =
        tables.iter().filter_map(|(name, table)| pipeline(name, table, steps, &known, folder));
    let pipelines = pipelines.collect();
    (pipelines, tables.into_iter().map(|(name, _)| name).collect())
}

fn pipeline(
    name: &str,
    table: &Table<'_>,
    steps: &[&str],
    known: &Steps,
    folder: &Path,
) -> Option<PipelineSpec> {
    let flow = Flow::read(table, folder);
    let input = table.take("input").map(|f| input(&f));
    let lenient = table.take("lenient").map(|f| f.boolean());
    let timeout = table.take("timeout").map(|f| f.duration());
    let journal = table.take("journal").map(|f| f.boolean());
    table.finish();
    let flow = flow?;
    let tree = flow.resolve(steps)?;
    let input = whole(input)?.unwrap_or_default();
    let (lenient, timeout) = (whole(lenient)?.unwrap_or_default(), whole(timeout)?);
    let journal = whole(journal)?.unwrap_or_default();
    let steps = tree.steps().into_iter().map(|step| step.name.clone()).collect();
    let (name, text) = (name.into(), flow.text.clone().into_owned());
    let spec = PipelineSpec { name, flow: text, steps, input, lenient, timeout, journal };
    let is_known = |step: &String| known.names().any(|name| name == step);
    if is_name(&spec.name)
        && spec.steps.iter().all(is_known)
        && let Err(error) = make::pipeline(&spec, known).build()
    {
        flow.refused(&error, &tree);
        return None;
    }
    Some(spec)
}

/// The text of a flow, and where it stands.
struct Flow<'a> {
    field: Field<'a>,
    text: Cow<'a, str>,
    // Its file, as the app file has it.
    file: Option<&'a str>,
}

impl<'a> Flow<'a> {
    fn read(table: &Table<'a>, folder: &Path) -> Option<Self> {
        let file = table.take("flow_file");
        let flow = match &file {
            Some(_) => table.take("flow"),
            None => {
                table.need("flow", "flow = \"validate -> charge\"; or flow_file = \"NAME.flow\"")
            }
        };
        if let (Some(flow), Some(file)) = (&flow, &file) {
            let why = format!("{} has both `flow` and `flow_file`", table.title);
            flow.rivals(file, why, "keep one of them");
            return None;
        }
        if let Some(field) = file {
            let file = field.text()?;
            let path = from_folder(folder, file);
            let text = FLOWS.read(&path).map_err(|error| {
                let why = error.to_string();
                let why = why.strip_prefix("flow: ").unwrap_or(&why);
                field.notes.add(field.span.clone(), why, error.advice().map(Into::into));
            });
            return Some(Self { text: text.ok()?.into(), file: Some(file), field });
        }
        let field = flow?;
        // The parser has better words than "is empty".
        let text = match field.value.as_str() {
            Some(text) => text,
            None => field.text()?,
        };
        Some(Self { text: text.into(), file: None, field })
    }

    /// Looks up its steps; notes each that is not declared, where the flow names it.
    fn resolve(&self, steps: &[&str]) -> Option<Sequence> {
        let tree = parse(&self.text).map_err(|mistake| self.wrong(mistake)).ok()?;
        let hint = |name: &str| match steps.is_empty() {
            true => format!("declare it: [steps.{name}] with a command"),
            false => suggest(name, steps),
        };
        let mistakes = unresolved(&tree, steps, hint);
        let fine = mistakes.is_empty();
        mistakes.into_iter().for_each(|mistake| self.wrong(mistake));
        fine.then_some(tree)
    }

    /// Notes why it can't be built, at the step that it is said of.
    fn refused(&self, error: &Error, tree: &Sequence) {
        let why = error.to_string();
        let message = why.strip_prefix("pipeline: ").unwrap_or(&why).to_owned();
        let step = error.value("step");
        let step = tree.steps().into_iter().find(|named| Some(&*named.name) == step);
        let hint = error.advice().map(in_file);
        match step.map(|step| step.span.clone()) {
            Some(span) => {
                let hint = hint.unwrap_or_default();
                self.wrong(FlowError { message, hint, span, also: None });
            }
            None => self.field.notes.add(self.field.span.clone(), message, hint),
        }
    }

    /// Notes a mistake in it; one in a file of its own is drawn, since that is not at hand.
    fn wrong(&self, mistake: FlowError) {
        let notes = self.field.notes;
        if let Some(file) = self.file {
            let before = self.text.get(..mistake.span.start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |part| part.chars().count()) + 1;
            let drawn = mistake.show(&self.text);
            let why = format!("{file}:{line}:{column}: {}\n{drawn}", mistake.message);
            let hint = Some(mistake.hint).filter(|hint| !hint.is_empty());
            return notes.add(self.field.span.clone(), why, hint);
        }
        let FlowError { message, hint, span, also } = mistake;
        let at = self.field.inside(&span);
        match also {
            Some((also, why)) => notes.also(at, message, hint, (&self.field.inside(&also), &why)),
            None => notes.add(at, message, Some(hint).filter(|hint| !hint.is_empty())),
        }
    }
}

/// Says what to do in a file, where that is not what a program would write.
fn in_file(hint: &str) -> String {
    const FOR_PROGRAMS: [(&str, &str); 3] = [
        (".input::<", "name it in the pipeline's `input`, or in the `output` of a step before"),
        ("as an Option", "give a step on each of the other ways that `output`, too"),
        (".output(..)", "give one of the steps another `output`"),
    ];
    let meant = FOR_PROGRAMS.iter().find(|(part, _)| hint.contains(part));
    meant.map_or(hint, |(_, meant)| meant).into()
}

/// Reads the names of the values that a pipeline is given: one, or a list.
fn input(field: &Field<'_>) -> Option<Vec<String>> {
    if field.value.as_str().is_some() {
        return Some(vec![field.text()?.to_owned()]);
    }
    let example = "input = \"order\" for the payload, or a list of fields of it";
    Some(field.distinct(example)?.into_iter().map(str::to_owned).collect())
}
