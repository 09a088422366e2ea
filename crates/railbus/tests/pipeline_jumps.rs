//! What is there after a jump ahead, as it is checked when a pipeline is built.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Flow, Pipeline, PipelineBuilder, StepDef, StepResult,
    step::{Input, Signature, Step},
};

/// May go to another step.
struct May(&'static str, &'static str);

#[async_trait::async_trait]
impl Step for May {
    fn signature(&self) -> Signature {
        Signature::new(self.0).goto(self.1)
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        Ok(Flow::Next(None))
    }
}

fn may(name: &'static str, to: &'static str) -> StepDef {
    StepDef::of(May(name, to))
}

fn says(name: &str) -> StepDef {
    StepDef::value(name, |_| 1).leaves::<i32>()
}

/// Takes a value, and what a jump brings before it.
fn wants(name: &str, key: &'static str) -> StepDef {
    StepDef::value(name, |_| ()).needs::<i32>("brought").needs::<i32>(key)
}

fn p() -> PipelineBuilder {
    Pipeline::new("p").input::<i32>("brought")
}

fn refused(builder: PipelineBuilder) -> String {
    builder.build().unwrap_err().to_string()
}

#[test]
fn what_a_jump_leaves_out_is_not_there_behind_it_and_the_jump_is_named() {
    let error =
        refused(p().step(may("a", "c")).step(says("b")).step(says("c")).step(wants("d", "b")));
    assert_eq!(
        error,
        "pipeline: `b` of step `b` is not there on every way that leads here \
         (way: after the jump from `a`, step: d, pipeline: p)"
    );
    // What was there before it is, and what comes after it.
    let fine = p().step(says("x")).step(may("a", "c")).step(says("b")).step(says("c"));
    fine.step(wants("d", "x")).step(wants("e", "c")).build().unwrap();
}

#[test]
fn of_several_jumps_the_one_is_named_that_leaves_it_out() {
    let line = || {
        let line = p().step(may("a", "c")).step(says("b")).step(says("c")).step(may("d", "f"));
        line.step(says("e")).step(says("f"))
    };
    let error = refused(line().step(wants("g", "b")));
    assert!(error.contains("`b` of step `b`") && error.contains("jump from `a`"), "{error}");
    let error = refused(line().step(wants("g", "e")));
    assert!(error.contains("`e` of step `e`") && error.contains("jump from `d`"), "{error}");
    line().step(wants("g", "c")).step(wants("h", "f")).build().unwrap();
    // What is left once more behind the first is there.
    line().step(says("b2").output("b")).step(wants("g", "b")).build().unwrap();
}

#[test]
fn where_several_jumps_arrive_only_what_all_bring_is_there() {
    let line = || {
        let line = p().step(may("a", "end")).step(says("x")).step(may("b", "end")).step(says("y"));
        line.step(says("end"))
    };
    for (key, from) in [("x", "jump from `a`"), ("y", "jump from `a`")] {
        let error = refused(line().step(wants("z", key)));
        assert!(error.contains(from), "{error}");
    }
    let before = p().step(says("x")).step(may("a", "end")).step(may("b", "end")).step(says("y"));
    before.step(says("end")).step(wants("z", "x")).build().unwrap();
}

#[test]
fn jumps_into_and_out_of_branches_are_gone_along() {
    // Into a branch, past what comes before it.
    let into = |then: StepDef| {
        let part = p().step(may("a", "r")).step(says("x")).step(says("check"));
        part.on_failure(says("r")).step(then)
    };
    let error = refused(into(wants("z", "x")));
    assert!(error.contains("`x` of step `x`") && error.contains("jump from `a`"), "{error}");
    into(says("z")).build().unwrap();
    // Out of a branch, over what follows the join.
    let out = |key: &'static str| {
        let part = p().step(says("check")).on_failure(may("r", "end")).step(says("x"));
        part.step(says("end")).step(wants("z", key))
    };
    let error = refused(out("x"));
    assert!(error.contains("`x` of step `x`") && error.contains("jump from `r`"), "{error}");
    out("end").build().unwrap();
}

#[test]
fn a_value_that_is_replaced_by_one_of_another_type_further_on_is_no_mistake() {
    let line = p().step(says("x")).step(may("a", "c")).step(says("b")).step(says("c"));
    let later = StepDef::value("later", |_| String::new()).leaves::<String>().output("x");
    line.step(wants("d", "x")).step(later).build().unwrap();
}
