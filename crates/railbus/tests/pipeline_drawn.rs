//! Drawings of pipelines, and of the ways that runs took through them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Failure, Flow, Pipeline, RunReport, StepDef, step, store};

fn says(name: &str) -> StepDef {
    StepDef::value(name, |_| 1)
}

#[step(goto = ["review"])]
fn check(total: i64) -> Result<Flow, Failure> {
    match total {
        ..0 => Err(Failure::new("less than nothing")),
        0..100 => Ok(Flow::next(total)),
        100..1000 => Ok(Flow::goto("review", total).into()),
        _ => Ok(Flow::branch("review", total)),
    }
}

async fn run(total: i64) -> RunReport {
    let pipeline = Pipeline::new("p").step(check).on_label("review", says("review"));
    let pipeline = pipeline.on_failure(says("refuse")).step(says("end"));
    pipeline.build().unwrap().run(store! { "total" => total }).await
}

/// Returns the lines of a Mermaid drawing that join boxes, as they are and as the run took them.
fn lines(drawing: &str) -> (Vec<&str>, Vec<&str>) {
    let lines =
        drawing.lines().map(str::trim).filter(|line| line.contains('>') && !line.contains('['));
    lines.partition(|line| !line.contains("==>"))
}

#[tokio::test]
async fn the_way_that_a_run_took_is_drawn_thick_and_no_other() {
    for (total, expected) in [
        (7, vec!["s0 ==> s3"]),
        (-1, vec![r#"s0 == "0" ==> s2"#, "s2 ==> s3"]),
        (500, vec![r#"s0 == "goto" ==> s1"#, "s1 ==> s3"]),
        (5000, vec![r#"s0 == "review" ==> s1"#, "s1 ==> s3"]),
    ] {
        let report = run(total).await;
        let drawing = report.mermaid();
        let (rest, taken) = lines(&drawing);
        assert_eq!(taken, expected, "{drawing}");
        assert_eq!(rest.len() + taken.len(), 6, "{drawing}");
        let thick = report.dot().lines().filter(|line| line.contains("penwidth")).count();
        assert_eq!(thick, expected.len(), "{}", report.dot());
    }
}

#[tokio::test]
async fn a_text_on_a_line_stands_within_the_line_as_mermaid_wants_it() {
    let drawing = run(7).await.mermaid();
    let (rest, _) = lines(&drawing);
    let expected = [
        r#"s0 -- "review" --> s1"#,
        r#"s0 -- "0" --> s2"#,
        r#"s0 -. "goto" .-> s1"#,
        "s1 --> s3",
        "s2 --> s3",
    ];
    assert_eq!(rest, expected, "{drawing}");
}
