//! A run that is dropped leaves no step behind, whatever it was at and wherever that runs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Cancel, IntoStep, Pipeline, Status, StepDef, each,
    executors::Threads,
    parallel, repeat,
    step::{Input, Signature, Step, StepResult},
    store,
};
use std::{future::pending, sync::Arc};
use tokio::sync::watch::{self, Receiver, Sender};

/// Waits for ever, and counts how many of it do.
#[derive(Clone)]
struct Waits(Arc<Sender<usize>>);

struct Held(Arc<Sender<usize>>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

#[async_trait::async_trait]
impl Step for Waits {
    fn signature(&self) -> Signature {
        Signature::new("waits").needs::<u64>("n")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        self.0.send_modify(|waiting| *waiting += 1);
        let _held = Held(Arc::clone(&self.0));
        pending().await
    }
}

/// Pipelines that wait, each with how many of its steps do.
fn pipelines(waits: &Waits) -> Vec<(&'static str, StepDef, usize)> {
    let step = || StepDef::of(waits.clone());
    let inner = || Pipeline::new("inner").step(step()).build().unwrap();
    let threads = || step().executor(Threads::new(2).thread_name_prefix("dropped_"));
    let group = parallel((step().named("a"), parallel((step().named("b"), inner()))));
    vec![
        ("a group", group.into_step(), 3),
        (
            "a group that fails fast",
            parallel((step().named("a"), inner())).fail_fast().into_step(),
            2,
        ),
        ("items", each("items", step()).at_once(3).into_step(), 3),
        ("a repetition", repeat(inner()).times(3).into_step(), 1),
        ("a pipeline", inner().named("nested"), 1),
        ("once", step().once(), 1),
        ("blocking", step().blocking(), 1),
        ("threads", threads(), 1),
        ("items on threads", each("items", threads()).at_once(2).fail_fast().into_step(), 2),
    ]
}

/// Waits until so many wait. What it looked at is let go of, since it is locked.
async fn until(waiting: &mut Receiver<usize>, steps: usize) {
    drop(waiting.wait_for(|waiting| *waiting == steps).await.unwrap());
}

#[tokio::test]
async fn nothing_of_a_run_goes_on_once_it_is_dropped_or_cancelled() {
    let (count, mut waiting) = watch::channel(0);
    let waits = Waits(Arc::new(count));
    for (what, step, steps) in pipelines(&waits) {
        let pipeline = Pipeline::new("p").step(step).step(StepDef::value("end", |_| 1));
        let pipeline = pipeline.build().unwrap();
        let run = || pipeline.run(store! { "n" => 1_u64, "items" => vec![1_u64, 2, 3, 4] });
        tokio::select! {
            report = run() => panic!("{what} ended: {report}"),
            () = until(&mut waiting, steps) => {}
        }
        until(&mut waiting, 0).await;

        let cancel = Cancel::new();
        let cancels = async {
            until(&mut waiting, steps).await;
            cancel.cancel();
        };
        let (report, ()) = tokio::join!(run().cancel_on(&cancel), cancels);
        assert_eq!(report.status(), Status::Cancelled, "{what}: {report}");
        until(&mut waiting, 0).await;
    }
}
