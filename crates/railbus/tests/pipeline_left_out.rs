//! What is not there after a jump ahead is known when a pipeline is built.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Flow, IntoStep, Pipeline, StepDef, chain,
    step::{Input, Signature, Step, StepResult},
};

fn says(name: &str) -> StepDef {
    StepDef::value(name, |_| 1_u64)
}

fn needs(name: &str, value: &str) -> StepDef {
    says(name).needs::<u64>(value)
}

/// A step that may jump, and leaves its own name.
struct Jumps(&'static str, &'static str);

#[async_trait::async_trait]
impl Step for Jumps {
    fn signature(&self) -> Signature {
        Signature::new(self.0).goto(self.1)
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        Ok(Flow::goto(self.1, 1_u64).into())
    }
}

fn jump(to: &'static str) -> StepDef {
    Jumps("jump", to).into_step()
}

/// Builds a line; returns what is wrong with it.
fn wrong(line: Vec<StepDef>) -> Option<String> {
    let line = line.into_iter().fold(Pipeline::new("p"), |builder, step| builder.step(step));
    line.build().err().map(|error| error.to_string())
}

/// What a branch that jumps has before that, and the other one.
fn parted(first: StepDef, other: &str) -> StepDef {
    says("parts").on_failure(chain((first, jump("t")))).on_success(says("b").output(other))
}

#[test]
fn what_a_jump_leaves_out_is_not_there_where_it_leads_to() {
    let lines = [
        vec![jump("t"), says("x"), needs("t", "jump").needs::<u64>("x")],
        // Behind where it leads to, too, and in a branch there.
        vec![jump("t"), says("x"), says("t"), needs("later", "x")],
        vec![jump("t"), says("x"), says("t").on_failure(needs("later", "x"))],
        // One of two jumps leaves it out.
        vec![jump("t"), says("x"), Jumps("more", "t").named("more"), says("t"), needs("u", "x")],
        // From a branch: what comes behind it.
        vec![parted(says("a"), "b"), says("x"), says("t"), needs("u", "x")],
    ];
    for line in lines {
        let shown = format!("{:?}", line.iter().map(StepDef::name).collect::<Vec<_>>());
        let error = wrong(line).unwrap_or_else(|| panic!("{shown} was built"));
        assert!(error.contains("`x` of step `x` is not there on every way"), "{shown}: {error}");
        assert!(error.contains("after the jump from `jump`"), "{shown}: {error}");
    }
}

#[test]
fn what_a_jump_leaves_out_may_be_left_again_or_not_be_needed() {
    let lines = [
        // The value of the step that jumps, and of those before it.
        vec![says("w"), jump("t"), says("x"), says("t"), needs("u", "jump"), needs("v", "w")],
        vec![jump("t"), says("x"), says("t"), says("y").output("x"), needs("u", "x")],
        vec![jump("t"), says("x"), needs("y", "x"), says("t")],
        // What comes with the jump.
        vec![jump("t"), says("x"), needs("t", "x")],
        // What both branches leave, one of them before it jumps.
        vec![parted(says("a").output("m"), "m"), says("t"), needs("u", "m")],
        vec![says("x"), jump("t"), says("z"), says("t"), needs("u", "x")],
    ];
    for line in lines {
        let shown = format!("{:?}", line.iter().map(StepDef::name).collect::<Vec<_>>());
        assert_eq!(wrong(line), None, "{shown}");
    }
}
