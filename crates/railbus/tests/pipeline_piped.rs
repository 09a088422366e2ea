//! Which input takes what is piped to a step, or what a jump brings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Flow, IntoStep, Pipeline, StepDef, StepError, step, store};

#[step]
fn show(x: i64, y: i64) -> String {
    format!("{x} {y}")
}

fn makes(name: &str) -> StepDef {
    StepDef::value(name, |_| 1_i64)
}

#[tokio::test]
async fn what_is_piped_goes_to_the_input_of_its_name_or_to_the_first_that_nothing_fills() {
    for (name, given, expected) in
        [("y", "x", "5 1"), ("x", "y", "1 5"), ("z", "y", "1 5"), ("z", "x", "5 1")]
    {
        let line = Pipeline::new("p").input::<i64>(given).step(makes(name)).pipe(show);
        let report = line.build().unwrap().run(store! { given => 5_i64 }).await;
        assert_eq!(*report.get::<String>("show").unwrap(), expected, "{name}, {given}: {report}");
    }
}

#[test]
fn what_is_piped_never_takes_the_place_of_one_among_several_that_are_filled() {
    let line = Pipeline::new("p").input::<i64>("x").input::<i64>("y").step(makes("z")).pipe(show);
    let error = line.build().unwrap_err();
    assert!(error.to_string().contains("`x`, `y` and what else it takes are filled"), "{error}");
    assert!(error.advice().unwrap().contains(".bind(\"x\", \"z\")"), "{error}");
}

#[tokio::test]
async fn what_is_piped_takes_the_place_of_a_step_s_only_input() {
    let line = Pipeline::new("p").input::<i64>("n").step(makes("z"));
    let line = line.pipe(
        StepDef::fallible("adds", |input| Ok(Flow::next(*input.get::<i64>("n")? + 1)))
            .needs::<i64>("n"),
    );
    let report = line.build().unwrap().run(store! { "n" => 5_i64 }).await;
    assert_eq!(*report.get::<i64>("adds").unwrap(), 2, "{report}");
}

#[step(goto = ["split"])]
fn find_big(part: &[i64]) -> Result<Flow, StepError> {
    Ok(match part.iter().position(|n| *n > 9) {
        Some(at) => Flow::goto("split", at).into(),
        None => Flow::next(part.len()),
    })
}

#[step]
fn split(list: &[i64], at: Option<usize>) -> Vec<i64> {
    list.iter().take(at.unwrap_or(list.len())).copied().collect()
}

#[tokio::test]
async fn what_a_jump_brings_goes_where_it_is_bound_to_or_to_what_nothing_fills() {
    for split in [split.bind("at", "find_big"), split.named("split")] {
        let line = Pipeline::new("p").step(split).step(find_big.bind("part", "split"));
        let report = line.build().unwrap().run(store! { "list" => vec![1_i64, 2, 30, 4] }).await;
        assert_eq!(*report.get::<Vec<i64>>("split").unwrap(), [1, 2], "{report}");
    }
}
