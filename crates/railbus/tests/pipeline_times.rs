//! How long steps took, as a report tells it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{IntoStep, Pipeline, Retry, StepDef, parallel, step, store};
use std::time::Duration;

#[step]
async fn pause() {
    // sleep: of a clock that stands still but for this.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_step_s_time_is_its_own_whatever_was_before_it() {
    let says = |name: &str| StepDef::value(name, |_| ());
    let line = Pipeline::new("p").step(says("a")).step(says("b"));
    let line = line.step(parallel((pause.named("in_a"), says("in_b")))).step(says("c"));
    let line = line.step(pause).step(says("d").retry(Retry::attempts(2))).step(says("e"));
    let report = line.build().unwrap().run(store! {}).await;
    for line in report.steps() {
        let expected = u64::from(["in_a", "pause"].contains(&&*line.name));
        assert_eq!(line.duration, Duration::from_secs(expected), "{report}");
    }
}
