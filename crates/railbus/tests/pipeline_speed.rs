//! Large graphs: what is done with them grows with their size, and no faster.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Flow, IntoStep, Pipeline, PipelineBuilder, RunReport, Status, StepDef, StepResult, Steps,
    parallel,
    step::{Input, Signature, Step},
    store,
};
use std::{fmt::Write as _, time::Instant};

fn says(name: String) -> StepDef {
    StepDef::value(name, |_| 1)
}

fn run(pipeline: &Pipeline) -> RunReport {
    let report = futures_util::FutureExt::now_or_never(pipeline.run(store! {})).unwrap();
    assert_eq!(report.status(), Status::Success);
    report
}

/// Asserts that ten times as much takes at most twenty times as long, at best of some tries.
fn grows_with_its_size(what: &str, work: impl Fn(usize)) {
    let time = |size: usize| {
        let start = Instant::now();
        work(size);
        start.elapsed()
    };
    let mut ratio = f64::MAX;
    for _ in 0..8 {
        let (small, large) = (time(1_000), time(10_000));
        ratio = ratio.min(large.as_secs_f64() / small.as_secs_f64());
        if ratio < 20.0 {
            return;
        }
    }
    panic!("{what}: ten times as much took {ratio:.1} times as long");
}

fn line(size: usize) -> PipelineBuilder {
    (0..size).fold(Pipeline::new("p"), |builder, n| builder.step(says(format!("s{n}"))))
}

fn written(size: usize) -> PipelineBuilder {
    let steps = (0..size).fold(Steps::new(), |steps, n| steps.add(says(format!("s{n}"))));
    let mut text = String::from("s0");
    (1..size).for_each(|n| write!(text, " -> s{n}").unwrap());
    Pipeline::new("p").steps(steps).flow(text)
}

#[test]
fn a_line_is_built_and_run_in_time_that_grows_with_it() {
    grows_with_its_size("building a line", |size| {
        assert_eq!(line(size).build().unwrap().steps().count(), size);
    });
    grows_with_its_size("building and running a line", |size| {
        let report = run(&line(size).build().unwrap());
        assert_eq!(report.store().len(), size);
    });
}

#[test]
fn a_text_is_built_in_time_that_grows_with_it() {
    grows_with_its_size("building a text", |size| {
        assert_eq!(written(size).build().unwrap().steps().count(), size);
    });
}

#[test]
fn piped_steps_and_branches_are_built_in_time_that_grows_with_their_number() {
    let next = |n: usize| says(format!("s{n}")).needs::<i32>("x").leaves::<i32>();
    grows_with_its_size("building piped steps", |size| {
        let first = Pipeline::new("p").step(says("first".into()).leaves::<i32>());
        (0..size).fold(first, |builder, n| builder.pipe(next(n))).build().unwrap();
    });
    grows_with_its_size("building branches", |size| {
        let parted = |builder: PipelineBuilder, n: usize| {
            let mend = says(format!("mend{n}")).output("mended");
            builder.step(says(format!("s{n}"))).on_failure(mend)
        };
        let pipeline = (0..size / 2).fold(Pipeline::new("p"), parted).build().unwrap();
        assert_eq!(run(&pipeline).steps().len(), size / 2 * 2);
    });
    grows_with_its_size("building groups", |size| {
        let group = |n: usize| parallel([says(format!("a{n}")), says(format!("b{n}"))]);
        let pipeline = (0..size / 2).fold(Pipeline::new("p"), |builder, n| builder.step(group(n)));
        pipeline.build().unwrap();
    });
    grows_with_its_size("building one large group", |size| {
        let members: Vec<StepDef> = (0..size).map(|n| says(format!("s{n}"))).collect();
        Pipeline::new("p").step(parallel(members)).build().unwrap();
    });
}

#[test]
fn a_report_is_told_and_drawn_in_time_that_grows_with_the_graph() {
    grows_with_its_size("telling of a run", |size| {
        let report = run(&line(size).build().unwrap());
        assert_eq!((report.steps().len(), report.path().count()), (size, size));
        assert_eq!(report.to_string().lines().count(), size + 1);
        assert!(report.mermaid().lines().count() > size);
        assert!(report.dot().lines().count() > size);
    });
}

/// Goes back to the first step so many times.
struct Back(usize);

#[async_trait::async_trait]
impl Step for Back {
    fn signature(&self) -> Signature {
        Signature::new("back").goto("s0")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        Ok(Flow::Next(None))
    }

    fn call<'a>(&'a self, input: Input<'a>) -> railbus::step::Ran<'a> {
        let seen = *input.get::<usize>("count").unwrap();
        railbus::step::Ran::Now(Ok(match seen {
            n if n < self.0 => Flow::goto("s0", n).into(),
            _ => Flow::Next(None),
        }))
    }
}

#[test]
fn jumps_cost_the_same_in_a_large_graph() {
    // The same number of jumps, over a tail that no jump comes to.
    grows_with_its_size("building and running jumps", |size| {
        let count = StepDef::fallible("count", |input| {
            let before = input.store().get::<usize>("count").map_or(0, |n| *n);
            Ok(Flow::next(before + 1))
        });
        let head = Pipeline::new("p").step(says("s0".into())).step(count).step(Back(size / 2));
        let all = (1..size).fold(head, |builder, n| builder.step(says(format!("s{n}"))));
        let report = run(&all.visits_max(1_000_000).build().unwrap());
        assert_eq!(report.step("s0").unwrap().visits as usize, size / 2);
    });
}

/// May go to another step, and leaves nothing.
struct May(String, String);

#[async_trait::async_trait]
impl Step for May {
    fn signature(&self) -> Signature {
        Signature::new(self.0.as_str()).goto(self.1.as_str())
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        Ok(Flow::Next(None))
    }
}

#[test]
fn jumps_ahead_are_checked_in_time_that_grows_with_their_number() {
    let jump = |n: usize, to: String| StepDef::of(May(format!("j{n}"), to));
    grows_with_its_size("checking jumps over a step each", |size| {
        let over = |builder: PipelineBuilder, n: usize| {
            builder.step(jump(n, format!("j{}", n + 1))).step(says(format!("s{n}")))
        };
        let over = (0..size / 2).fold(Pipeline::new("p"), over);
        over.step(says(format!("j{}", size / 2))).build().unwrap();
    });
    grows_with_its_size("checking jumps over a half of all", |size| {
        let over = |builder: PipelineBuilder, n: usize| {
            builder.step(jump(n, format!("s{}", n + size / 2)))
        };
        let over = (0..size / 2).fold(Pipeline::new("p"), over);
        (0..size).fold(over, |builder, n| builder.step(says(format!("s{n}")))).build().unwrap();
    });
    grows_with_its_size("checking jumps to one step", |size| {
        let over = |builder: PipelineBuilder, n: usize| {
            builder.step(jump(n, "end".into())).step(says(format!("s{n}")))
        };
        let over = (0..size / 2).fold(Pipeline::new("p"), over);
        over.step(says("end".into())).build().unwrap();
    });
}

#[test]
fn branches_within_branches_are_built_up_to_a_depth_and_refused_past_it() {
    let nested = |depth: usize| {
        let first = says("last".into());
        (0..depth).fold(first, |inner, n| says(format!("s{n}")).on_failure(inner))
    };
    let pipeline = Pipeline::new("p").step(nested(120)).build().unwrap();
    assert_eq!(pipeline.steps().count(), 121);
    let error = Pipeline::new("p").step(nested(300)).build().unwrap_err();
    assert!(error.to_string().contains("deep"), "{error}");
    let groups = (0..5_000)
        .fold(says("last".into()), |inner, n| parallel([inner, says(format!("s{n}"))]).into_step());
    let error = Pipeline::new("p").step(groups).build().unwrap_err();
    assert!(error.to_string().contains("deep"), "{error}");
}
