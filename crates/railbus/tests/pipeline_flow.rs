//! The flow: branches, jumps, groups, repetition, and what their checks refuse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Evaluation, Failure, Flow, IntoStep, Pipeline, RunReport, Status, StepDef, StepError,
    StepResult, Value, chain, each, json, parallel,
    pipeline::StepStatus,
    repeat, step,
    step::{Input, Signature, Step},
    store,
};

/// A step that leaves its own name.
fn says(name: &str) -> StepDef {
    let value = name.to_owned();
    StepDef::value(name, move |_| value.clone())
}

/// A step that says no.
fn fails(name: &str) -> StepDef {
    StepDef::fallible(name, |_| Err(Failure::new("no").value(json!({"code": 7})).into()))
}

/// A step that an exception befalls.
fn throws(name: &str) -> StepDef {
    StepDef::fallible(name, |_| Err("broken".into()))
}

fn path(report: &RunReport) -> String {
    report.path().collect::<Vec<_>>().join(" ")
}

fn refused(pipeline: railbus::PipelineBuilder) -> String {
    pipeline.build().unwrap_err().to_string()
}

#[tokio::test]
async fn a_failure_takes_branch_0_and_a_success_branch_1_and_both_join() {
    for (first, way) in
        [(says("a"), "a good end"), (fails("a"), "a bad end"), (throws("a"), "a bad end")]
    {
        let pipeline =
            Pipeline::new("p").step(first).on_failure(says("bad")).on_success(says("good"));
        let report = pipeline.step(says("end")).build().unwrap().run(store! {}).await;
        assert_eq!((path(&report).as_str(), report.status()), (way, Status::Success));
        assert!(report.error().is_none() && report.stopped().is_none());
    }
}

#[tokio::test]
async fn a_failure_without_a_branch_of_its_own_ends_the_run_or_goes_on_past_the_branches() {
    let pipeline =
        || Pipeline::new("p").step(fails("a")).on_success(says("good")).step(says("end"));
    let report = pipeline().build().unwrap().run(store! {}).await;
    assert_eq!((path(&report).as_str(), report.status()), ("a", Status::Failure));
    let report = pipeline().lenient().build().unwrap().run(store! {}).await;
    assert_eq!((path(&report).as_str(), report.status()), ("a end", Status::Failure));
}

#[tokio::test]
async fn a_branch_that_fails_itself_ends_the_run() {
    let pipeline = Pipeline::new("p").step(fails("a")).on_failure(chain((throws("b"), says("c"))));
    let report = pipeline.step(says("end")).build().unwrap().run(store! {}).await;
    assert_eq!((path(&report).as_str(), report.status()), ("a b", Status::Exception));
}

#[step]
fn classify(kind: &str) -> Result<Flow, StepError> {
    Ok(match kind {
        "plain" => Flow::next("plain".to_owned()),
        "wrong" => Flow::branch("gold", 1),
        other => Flow::branch(other, other.to_owned()),
    })
}

#[tokio::test]
async fn a_step_takes_the_branch_it_names_and_an_unknown_one_is_an_exception() {
    let pipeline = Pipeline::new("p").step(classify).on_label("premium", says("lounge"));
    let pipeline = pipeline.on_label("7", says("seven")).step(says("end")).build().unwrap();
    for (kind, way) in [
        ("plain", "classify end"),
        ("premium", "classify lounge end"),
        ("7", "classify seven end"),
        ("wrong", "classify"),
    ] {
        let report = pipeline.run(store! { "kind" => kind.to_owned() }).await;
        assert_eq!(path(&report), way);
    }
    let report = pipeline.run(store! { "kind" => "wrong".to_owned() }).await;
    let error = report.error().unwrap();
    assert_eq!(
        (error.kind(), error.line().as_str()),
        ("flow", "it takes branch `gold`, but has: premium, 7")
    );
    let report = pipeline.run(store! { "kind" => "premium".to_owned() }).await;
    assert_eq!(report.step("classify").unwrap().branch.as_deref(), Some("premium"));
}

#[step(goto = ["review"])]
fn check(total: i64) -> Flow {
    match total {
        0..100 => Flow::next(total),
        _ => Flow::goto("review", total).reason("too large").into(),
    }
}

#[step]
fn review(amount: i64) -> i64 {
    amount / 2
}

#[tokio::test]
async fn a_jump_brings_its_value_and_the_flow_goes_on_from_the_target() {
    let pipeline = Pipeline::new("p").step(check).on_label("review", review).step(says("end"));
    let pipeline = pipeline.build().unwrap();
    let report = pipeline.run(store! { "total" => 7_i64 }).await;
    assert_eq!(path(&report), "check end");
    let report = pipeline.run(store! { "total" => 700_i64 }).await;
    assert_eq!((path(&report).as_str(), report.status()), ("check review end", Status::Success));
    assert_eq!(*report.get::<i64>("review").unwrap(), 350);
    let jump = report.step("check").unwrap().goto.clone().unwrap();
    assert_eq!((&*jump.to, jump.reason.as_str()), ("review", "too large"));
    assert!(report.to_string().contains("goto review (too large)"), "{report}");
}

#[tokio::test]
async fn an_endless_way_round_is_an_exception_that_shows_it() {
    let back = StepDef::of(Back);
    let pipeline = Pipeline::new("p").step(says("a")).step(says("b")).step(back).visits_max(5);
    let report = pipeline.lenient().build().unwrap().run(store! {}).await;
    let error = report.error().unwrap();
    assert_eq!(error.kind(), "loop");
    assert_eq!(error.line(), "the run came to `a` 5 times: a -> b -> back -> a");
    assert_eq!(report.step("a").unwrap().visits, 5);
    assert_eq!(report.status(), Status::Exception);
}

#[tokio::test]
async fn a_step_may_be_come_to_as_often_as_said() {
    let jumps = |visits: u32| {
        let builder = Pipeline::new("p").step(check).on_label("review", review).visits_max(visits);
        builder.build().unwrap().run(store! { "total" => 700_i64 })
    };
    assert_eq!(path(&jumps(1).await), "check review");
    let back = Pipeline::new("p").step(says("a")).step(StepDef::of(Back)).visits_max(1);
    let report = back.build().unwrap().run(store! {}).await;
    assert_eq!(report.error().unwrap().line(), "the run came to `a` 1 time: a -> back -> a");
}

struct Back;

#[async_trait::async_trait]
impl Step for Back {
    fn signature(&self) -> Signature {
        Signature::new("back").goto("a")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        Ok(Flow::goto("a", 1).into())
    }
}

#[tokio::test]
async fn what_a_step_leaves_on_one_way_only_is_not_there_after_the_join() {
    let wants = || StepDef::value("end", |_| ()).needs::<String>("good");
    let one = Pipeline::new("p").step(says("a")).on_success(says("good").leaves::<String>());
    let error = refused(one.on_failure(says("bad")).step(wants()));
    assert!(error.contains("`good` of step `good` is not there on every way"), "{error}");
    let both = Pipeline::new("p").step(says("a")).on_success(says("good").leaves::<String>());
    let both = both.on_failure(says("bad").leaves::<String>().output("good")).step(wants());
    assert_eq!(both.build().unwrap().run(store! {}).await.status(), Status::Success);
}

#[tokio::test]
async fn members_of_a_group_see_what_was_before_and_leave_theirs_in_order() {
    let inside = chain((says("b1"), StepDef::value("b2", |input| input.store().has("c"))));
    let pipeline = Pipeline::new("p").step(says("a")).step(parallel((inside, says("c"))));
    let report = pipeline.step(says("end")).build().unwrap().run(store! {}).await;
    assert_eq!(path(&report), "a b1 b2 c end");
    assert!(!*report.get::<bool>("b2").unwrap());
    assert_eq!(report.store().names().collect::<Vec<_>>(), ["a", "b1", "b2", "c", "end"]);
}

#[tokio::test]
async fn a_group_is_judged_by_the_flags_of_its_members() {
    use Evaluation::{All, Any, AtLeast, Majority, NoneFailed, NotAllFailed, Percent};
    for (evaluation, one_failed, all_failed) in [
        (All, false, false),
        (NoneFailed, false, false),
        (Any, true, false),
        (NotAllFailed, true, false),
        (AtLeast(1), true, false),
        (AtLeast(2), false, false),
        (Percent(50), true, false),
        (Majority, false, false),
    ] {
        for (second, expected) in [(says("b"), one_failed), (fails("b"), all_failed)] {
            let first = fails("a");
            let group = parallel((first, second)).evaluate(evaluation);
            let pipeline = Pipeline::new("p").step(group).step(says("end")).build().unwrap();
            let report = pipeline.run(store! {}).await;
            assert_eq!(report.status() == Status::Success, expected, "{evaluation}");
            assert_eq!(path(&report).ends_with("end"), expected);
            assert_eq!(report.step("a").unwrap().status, StepStatus::Failure);
        }
    }
}

#[tokio::test]
async fn a_group_pipes_its_values_as_a_list_and_is_piped_to() {
    let double = |name: &str| {
        let def = StepDef::fallible(name, |input| Ok(Flow::next(*input.get::<i64>("n")? * 2)));
        def.needs::<i64>("n").leaves::<i64>()
    };
    let sum = StepDef::fallible("sum", |input| {
        Ok(Flow::next(input.get::<Vec<i64>>("all")?.iter().sum::<i64>()))
    });
    let four = StepDef::value("four", |_| 4_i64).leaves::<i64>();
    let group = parallel((double("x"), double("y")));
    let pipeline = Pipeline::new("p").step(four).pipe(group).pipe(sum.needs::<Vec<i64>>("all"));
    let report = pipeline.build().unwrap().run(store! {}).await;
    assert_eq!(*report.get::<i64>("sum").unwrap(), 16, "{report}");
}

#[tokio::test]
async fn what_is_piped_after_branches_is_what_the_last_step_left() {
    let show =
        StepDef::fallible("show", |input| Ok(Flow::next(input.get::<String>("text")?.to_string())));
    let show = show.needs::<String>("text");
    for (first, text) in [(says("a"), "good"), (fails("a"), "bad")] {
        let pipeline =
            Pipeline::new("p").step(first).on_failure(says("bad")).on_success(says("good"));
        let report = pipeline.pipe(show.clone()).build().unwrap().run(store! {}).await;
        assert_eq!(*report.get::<String>("show").unwrap(), text, "{report}");
    }
}

#[tokio::test]
async fn the_failure_s_value_is_piped_to_its_branch() {
    let refund = StepDef::fallible("refund", |input| {
        Ok(Flow::next(input.get::<Value>("why")?["code"].clone()))
    });
    let refund = refund.needs::<Value>("why").piped();
    let pipeline = Pipeline::new("p").step(fails("charge")).on_failure(refund).build().unwrap();
    let report = pipeline.run(store! {}).await;
    assert_eq!(*report.get::<i64>("refund").unwrap(), 7, "{report}");
}

#[tokio::test]
async fn a_pipeline_in_a_pipeline_leaves_what_its_steps_left() {
    #[step]
    fn double(n: i64) -> i64 {
        n * 2
    }
    #[step]
    fn add(double: i64, n: i64) -> i64 {
        double + n
    }
    let inner = Pipeline::new("inner").step(double).step(add).build().unwrap();
    let last = StepDef::fallible("last", |input| Ok(Flow::next(*input.get::<i64>("add")? + 1)));
    let outer = Pipeline::new("outer").step(inner).step(last.needs::<i64>("add")).build().unwrap();
    assert_eq!(outer.inputs().collect::<Vec<_>>(), ["n"]);
    let report = outer.run(store! { "n" => 5_i64 }).await;
    assert_eq!(*report.get::<i64>("last").unwrap(), 16);
    let inside = report.step("inner").unwrap().inside.clone().unwrap();
    assert_eq!(path(&inside), "double add");
}

#[tokio::test]
async fn items_are_worked_on_in_order_of_input_whatever_fails() {
    #[step]
    async fn third(n: u64) -> Result<u64, Failure> {
        for _ in 0..(n % 7) {
            tokio::task::yield_now().await;
        }
        if n.is_multiple_of(3) {
            Err(Failure::new(format!("{n} is divisible")))
        } else {
            Ok(n * 10)
        }
    }
    let group = each("numbers", third).at_once(5).evaluate(Evaluation::Any);
    let pipeline = Pipeline::new("p").step(group).build().unwrap();
    let report = pipeline.run(store! { "numbers" => (0..10_u64).collect::<Vec<_>>() }).await;
    let value = report.get::<Vec<Option<u64>>>("third").unwrap();
    assert_eq!(value[..5], [None, Some(10), Some(20), None, Some(40)]);
    let items = report.step("third").unwrap().items.clone().unwrap();
    assert_eq!((items.succeeded, items.failed), (6, 4));
    assert_eq!(items.failures[1], (3, "3 is divisible".to_owned()));
    let strict = Pipeline::new("p").step(each("numbers", third)).build().unwrap();
    let report = strict.run(store! { "numbers" => vec![1_u64, 3] }).await;
    assert_eq!(report.status(), Status::Failure, "{report}");
    let report = strict.run(store! { "numbers" => Vec::<u64>::new() }).await;
    assert_eq!(report.status(), Status::Success, "{report}");
}

#[tokio::test]
async fn a_step_repeats_with_what_it_left_and_the_numbers_are_those_of_the_document() {
    #[step(output = "tot")]
    fn add(tot: i64) -> i64 {
        tot + 15
    }
    for (again, total) in [(repeat(add).times(3), 45), (repeat(add).times(3).fresh(), 15)] {
        let pipeline = Pipeline::new("p").step(again).build().unwrap();
        let report = pipeline.run(store! { "tot" => 0_i64 }).await;
        assert_eq!(*report.get::<i64>("tot").unwrap(), total);
    }
    let endless = repeat(add).until(|_: &Input<'_>| false);
    let pipeline = Pipeline::new("p").step(endless).build().unwrap();
    let report = pipeline.run(store! { "tot" => 0_i64 }).await;
    assert_eq!(report.error().unwrap().kind(), "loop");
    assert!(refused(Pipeline::new("p").step(repeat(add))).contains("without an end"));
}

#[tokio::test]
async fn what_can_not_be_reached_or_found_is_refused() {
    #[step]
    fn plain() -> i32 {
        1
    }
    let p = || Pipeline::new("p");
    for (pipeline, why) in [
        (
            p().step(plain).on_label("x", says("b")),
            "`b` can't be reached: it never takes branch `x`",
        ),
        (p().on_failure(says("b")), "a branch has no step before"),
        (
            p().step(says("a")).on_failure(says("b")).on_failure(says("c")),
            "branch `0` is there twice",
        ),
        (p().step(check), "it may jump to `review`, which is no step here"),
        (p().step(parallel((check, says("b")))).step(review), "out of or into a group"),
        (p().pipe(review), "nothing comes before it to pipe"),
        (p().step(says("a")).pipe(plain), "it takes nothing to pipe into"),
        (p().step(says("a").leaves::<String>()).pipe(review), "is needed as a i64"),
        (
            p().step(parallel((says("a").output("x"), says("b").output("x")))),
            "step `a` and step `b` both leave `x`, side by side",
        ),
        (
            p().step(parallel((says("a"), says("b"))).retry(railbus::Retry::attempts(2))),
            "a retry policy is said of a group",
        ),
        (p().step(says("a")).on_success(says("a")), "step `a` comes twice"),
        (p().step(chain(Vec::<StepDef>::new())), "a group or branch has no steps"),
    ] {
        let error = refused(pipeline);
        assert!(error.contains(why), "{error}\n  is not: {why}");
    }
}

#[tokio::test]
async fn a_step_that_repeats_ends_that_by_stopping() {
    let count = StepDef::fallible("count", |input| {
        let n = input.get_if::<i64>("count")?.map_or(0, |n| *n) + 1;
        Ok(if n == 3 { Flow::stop(n) } else { Flow::next(n) })
    });
    let again = repeat(count).times(10);
    let pipeline = Pipeline::new("p").step(again).step(says("end")).build().unwrap();
    let report = pipeline.run(store! { "count" => 0_i64 }).await;
    assert_eq!((path(&report).as_str(), report.status()), ("count end", Status::Success));
}
