//! Random graphs of steps, run by the engine and by a small interpreter of the same tree; and the
//! same graphs as text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "pipeline_model/model.rs"]
mod model;
#[path = "pipeline_model/tree.rs"]
mod tree;

use model::Model;
use railbus::{Pipeline, PipelineBuilder, RunReport, Steps, store};
use std::fmt::Write as _;
use tree::{Line, Random, Tree};

const GRAPHS: u64 = 1_000;

fn run(builder: PipelineBuilder) -> (RunReport, String) {
    let pipeline = builder.build().unwrap();
    let drawn = pipeline.mermaid();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let report = runtime.block_on(pipeline.run(store! {}));
    (report, drawn)
}

/// Writes all that two runs are compared by.
fn told(report: &RunReport) -> String {
    let mut text = String::new();
    let path: Vec<&str> = report.path().collect();
    writeln!(text, "path: {}", path.join(" ")).unwrap();
    for step in report.steps() {
        writeln!(text, "{}: {} {}", step.name, step.status, step.visits).unwrap();
    }
    let stopped = report.stopped().map(|(step, reason)| format!("{step} {reason:?}"));
    let error = report.error().map(|error| error.line());
    writeln!(text, "{} {stopped:?} {error:?}", report.status()).unwrap();
    let names: Vec<&str> = report.store().names().filter(|name| !name.starts_with('{')).collect();
    writeln!(text, "store: {}", names.join(" ")).unwrap();
    text
}

fn same(what: &str, seed: u64, tree: &Tree, ours: &str, theirs: &str) {
    let flow = tree.line.text();
    let steps = tree.steps();
    assert!(ours == theirs, "{what}, seed {seed}:\n{flow}\n{steps}\n{ours}\nis not\n{theirs}");
}

#[test]
fn the_engine_does_what_the_model_does() {
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..GRAPHS {
        let tree = Tree::random(&mut Random::new(seed));
        let (report, _) = run(tree.builder());
        let model = Model::run(&tree);
        same("the run", seed, &tree, &told(&report), &model);
        *seen.entry(report.status().to_string()).or_default() += 1;
    }
    // The graphs are of all kinds.
    for status in ["success", "failure", "exception", "stopped"] {
        assert!(seen.get(status).is_some_and(|count| *count > 30), "{seen:?}");
    }
}

#[test]
fn text_and_builder_make_the_same_graph() {
    for seed in 0..GRAPHS {
        let tree = Tree::random(&mut Random::new(seed));
        let (built, drawn) = run(tree.builder());
        let steps = tree.all().into_iter().fold(Steps::new(), |steps, leaf| steps.add(leaf.def()));
        let text = tree.line.text();
        let flow = Pipeline::new("p").steps(steps).flow(text);
        let flow = if tree.is_lenient { flow.lenient() } else { flow };
        let (written, drawn_of_text) = run(flow);
        same("the drawing", seed, &tree, &drawn_of_text, &drawn);
        same("the run of the text", seed, &tree, &told(&written), &told(&built));
    }
}

#[test]
fn the_model_and_the_engine_can_differ() {
    // A model that knows no branches is found out.
    let found = (0..200).any(|seed| {
        let tree = Tree::random(&mut Random::new(seed));
        let line = tree.line.0.iter().map(|unit| unit.without_arms()).collect();
        let bare = Tree { line: Line(line), is_lenient: tree.is_lenient };
        told(&run(tree.builder()).0) != Model::run(&bare)
    });
    assert!(found);
}
