//! Steps within steps: as deep as anybody writes them, and refused past it, at no cost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{IntoStep, Pipeline, Status, StepDef, chain, each, parallel, repeat, store};

fn says(name: &str) -> StepDef {
    StepDef::value(name, |_| 1)
}

type Nest = fn(StepDef) -> StepDef;

fn nests() -> [(&'static str, Nest); 8] {
    [
        ("parallel", |inner| parallel([inner]).into_step()),
        ("named parallel", |inner| parallel([inner]).into_step().named("group")),
        ("chain", |inner| chain([inner])),
        ("named chain", |inner| chain([inner]).named("group")),
        ("each", |inner| each("items", inner).into_step()),
        ("repeat", |inner| repeat(inner).times(1).into_step()),
        ("branch", |inner| says("a").on_failure(inner)),
        ("branch of a repetition", |inner| {
            repeat(says("a").on_failure(inner)).times(1).into_step()
        }),
    ]
}

#[test]
fn what_is_nested_100_000_deep_is_refused_and_dropped() {
    for (what, nest) in nests() {
        let deep = (0..100_000).fold(says("inner"), |inner, _| nest(inner));
        let copy = deep.clone();
        assert!(format!("{copy:?}").len() < 1_000_000, "{what}");
        let error = Pipeline::new("p").step(deep).build().unwrap_err().to_string();
        assert!(error.contains("too deep in one another"), "{what}: {error}");
        drop(copy);
    }
}

#[test]
fn pipelines_in_pipelines_are_refused_past_a_depth() {
    let mut inner = Pipeline::new("p").step(says("a")).build().unwrap();
    let error = loop {
        match Pipeline::new("p").step(inner.named("q")).build() {
            Ok(outer) => inner = outer,
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("too deep in one another"), "{error}");
}

#[tokio::test]
async fn as_deep_as_it_may_be_it_runs() {
    let runs: [(&str, Nest); 4] = [
        ("parallel", |inner| parallel([inner]).into_step()),
        ("repeat", |inner| repeat(inner).times(1).into_step()),
        ("each", |inner| each("items", inner).item("items").into_step()),
        ("pipeline", |inner| {
            Pipeline::new("p").step(inner).build().unwrap().into_step().named("q")
        }),
    ];
    for (what, nest) in runs {
        let mut deep = match what {
            "each" => says("inner").needs::<serde_json::Value>("items"),
            _ => says("inner"),
        };
        let mut last = Pipeline::new("p").step(deep.clone()).build().unwrap();
        let mut depth = 0;
        for _ in 0..500 {
            deep = nest(deep);
            match Pipeline::new("p").step(deep.clone()).build() {
                Ok(pipeline) => last = pipeline,
                Err(error) => {
                    assert!(error.to_string().contains("deep"), "{what}: {error}");
                    break;
                }
            }
            depth += 1;
        }
        assert!((20..500).contains(&depth), "{what}: {depth}");
        let items = (0..depth).fold(serde_json::json!(1), |items, _| serde_json::json!([items]));
        let report = last.run(store! { "items" => items }).await;
        assert_eq!(report.status(), Status::Success, "{what}: {report}");
        let _ = (report.to_string(), report.mermaid(), last.dot(), format!("{last:?}"));
    }
}
