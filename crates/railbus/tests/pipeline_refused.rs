//! What can't work is refused when the pipeline is built: what, where, and what to do instead.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Flow, IntoStep, Pipeline, PipelineBuilder, StepDef, StepResult, Steps, chain, each,
    error::ErrorKind,
    executors::Blocking,
    json, parallel, repeat, step,
    step::{Input, Items, Signature, Step},
    store,
};
use std::time::Duration;

#[step]
fn double(n: u64) -> u64 {
    n * 2
}

#[step]
fn shout(text: &str) -> String {
    text.to_uppercase()
}

#[step(goto = ["reviw"])]
fn check(n: u64) -> Flow {
    Flow::next(n)
}

fn says(name: &str) -> StepDef {
    StepDef::value(name, |_| 1)
}

fn p() -> PipelineBuilder {
    Pipeline::new("p")
}

fn group() -> StepDef {
    parallel((says("a"), says("b"))).into_step()
}

fn inner() -> StepDef {
    Pipeline::new("inner").step(says("in")).build().unwrap().into_step()
}

fn written(text: &str) -> PipelineBuilder {
    p().steps(Steps::new().add(says("a")).add(says("b")).add(double)).flow(text)
}

fn cases() -> Vec<(PipelineBuilder, &'static str)> {
    let only = |step: StepDef| step.only_if(|_| true);
    let two = Steps::new().add(says("a")).add(says("a"));
    vec![
        (p(), "a pipeline needs a step"),
        (p().step(group().only_if(|_| true)), "a condition is said of a group"),
        (p().step(group().bypass(|_| true)), "a bypass is said of a group"),
        (p().step(group().once()), "`once` is said of a group"),
        (p().step(group().timeout(Duration::from_secs(1))), "a timeout is said of a group"),
        (p().step(group().executor(Blocking)), "an executor is said of a group"),
        (p().step(inner().executor(Blocking)), "an executor is said of a group"),
        (p().step(repeat(says("a"))), "it repeats without an end"),
        (p().step(each("items", says("a"))), "it takes nothing that an item could be given as"),
        (p().step(each("items", double).item("m")), "it takes nothing that an item could be"),
        (p().step(each("items", chain((says("a"), double)))), "needs a name"),
        (p().step(check).step(says("review")), "it may jump to `reviw`, which is no step here"),
        (p().step(says("a")).on_success(says("b")).on_success(says("c")), "there twice"),
        (p().step(double).on_label("gold", says("b")), "it never takes branch `gold`"),
        (p().step(only(says("a"))).pipe(double), "`a` may be left out"),
        (
            p().step(says("x")).on_success(only(says("a"))).on_failure(says("b")).pipe(double),
            "`a` may be left out",
        ),
        (p().step(double).step(shout.bind("text", "double")), "is needed as a"),
        (p().step(double.bind("m", "x")), "`m` is bound, but the step needs no `m`"),
        (p().input::<u64>("n").step(shout), "nothing leaves `text`, which it needs"),
        (p().input::<String>("n").step(double), "is needed as a u64"),
        (p().step(only(says("n").leaves::<u64>())).step(double), "is not there on every way"),
        (p().step(says("a").retry(json!({"max_attempts": 0}))), "max_attempts"),
        (p().step(says("a").retry(json!({"tries": 3}))), "tries"),
        (written(""), "empty"),
        (written("a -> c"), "c"),
        (written("a -> a"), "step `a` is named twice"),
        (written("a(2"), "flow"),
        (written("{a || b}[most]"), "most"),
        (p().flow("a"), "a"),
        (p().steps(two).flow("a"), "step `a` comes twice in a set"),
        (p().flow_file("no/such.flow"), "there is no such file (file: no/such.flow, pipeline: p)"),
    ]
}

#[test]
fn every_refusal_says_what_and_where_and_what_to_do() {
    let mut wrong = Vec::new();
    for (builder, why) in cases() {
        let Err(error) = builder.build() else {
            wrong.push(format!("was built: {why}"));
            continue;
        };
        let text = error.to_string();
        let advice = error.advice().is_some_and(|advice| advice.len() > 5);
        for (holds, what) in [
            (error.kind() == ErrorKind::Config, "is of another kind"),
            (text.contains(why), "is not what was expected"),
            (text.contains("pipeline"), "does not say where"),
            (advice, "does not say what to do"),
        ] {
            if !holds {
                wrong.push(format!("{why}: {what}: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_may_be_left_out_is_piped_to_what_can_do_without_it() {
    for runs in [true, false] {
        let first = says("a").only_if(move |_| runs);
        let pipeline = p().step(first).pipe(Show).build().unwrap();
        let report = pipeline.run(store! {}).await;
        assert_eq!(*report.get::<bool>("show").unwrap(), runs, "{report}");
    }
}

/// Tells whether there is what it takes.
struct Show;

#[async_trait::async_trait]
impl Step for Show {
    fn signature(&self) -> Signature {
        Signature::new("show").takes::<i32>("n").output::<bool>("show")
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        Ok(Flow::next(input.get_if::<i32>("n")?.is_some()))
    }
}

#[tokio::test]
async fn a_missing_or_mistyped_value_ends_a_run_with_its_name() {
    let pipeline = p().step(double).build().unwrap();
    let report = pipeline.run(store! {}).await;
    let error = report.error().unwrap();
    assert_eq!((error.kind(), report.stopped()), ("input", None));
    assert!(error.line().contains("the input `n` is missing"), "{}", error.line());
    let report = pipeline.run(store! { "n" => "seven" }).await;
    assert!(report.error().unwrap().line().contains("`n` is not a u64"), "{report}");
    let items = p().step(double).step(each("items", shout)).build().unwrap();
    let report = items.run(store! { "n" => 1_u64, "items" => Items::of([1, 2]) }).await;
    let error = report.step("shout").unwrap().error.clone().unwrap();
    assert!(error.contains("2 of 2 items did not succeed; item 0"), "{error}");
}
