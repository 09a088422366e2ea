//! Steps and their errors, which misbehave.

use crate::runtimes::{block_on, within_a_minute};
use railbus::{
    Bus, Event, Failure, Pipeline, Retry, RunReport, Status, StepDef, StepError, step, store,
};
use std::{
    error::Error as StdError,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::runtime::{Builder, Handle, Runtime};

/// An error that is its own cause.
#[derive(Debug)]
struct Own;

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("of itself")
    }
}

impl StdError for Own {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }
}

fn quick(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff_factor(Duration::from_millis(1))
}

async fn run(step: StepDef) -> RunReport {
    Pipeline::new("p").step(step).build().unwrap().run(store! {}).await
}

#[test]
fn an_error_that_is_its_own_cause_ends_every_search_among_causes() {
    within_a_minute(|| {
        assert_eq!(StepError::from(Own).kind(), "error");
        assert!(Failure::find(&Own).is_none());
        assert!(!quick(2).on::<io::Error>().covers("error", &Own));
        assert!(quick(2).on::<Own>().covers("error", &Own));
    });
}

#[test]
fn an_error_that_is_its_own_cause_is_tried_again_and_told_everywhere() {
    within_a_minute(|| {
        Runtime::new().unwrap().block_on(async {
            for group in [None, Some("g")] {
                let (bus, calls) = (Bus::new(), Arc::new(AtomicUsize::new(0)));
                let count = Arc::clone(&calls);
                let on = bus.on("a").retry(quick(2));
                let on = group.into_iter().fold(on, |on, group| on.group(group));
                let own = move |_: &Event| {
                    count.fetch_add(1, SeqCst);
                    Err::<(), _>(Own)
                };
                on.run(own).await.unwrap();
                bus.publish(Event::new("a")).await.unwrap();
                bus.idle().await.unwrap();
                assert_eq!(calls.load(SeqCst), 2, "{group:?}");
            }
            let own = StepDef::fallible("own", |_| Err(Own.into()));
            let report = run(own.retry(quick(2).on::<Own>())).await;
            assert_eq!((report.status(), report.steps()[0].tries), (Status::Exception, 2));
            assert_eq!(report.error().unwrap().line(), "of itself");
        });
    });
}

#[step(blocking)]
fn on_this_runtime() -> i32 {
    Handle::current().block_on(async {
        tokio::task::yield_now().await;
        7
    })
}

#[step(blocking)]
fn on_its_own_runtime() -> i32 {
    Builder::new_current_thread().build().unwrap().block_on(async { 7 })
}

#[step]
async fn without_blocking() -> i32 {
    tokio::task::yield_now().await;
    7
}

#[railbus::test]
async fn a_blocking_step_may_wait_on_any_runtime() {
    for step in [on_this_runtime(), on_its_own_runtime(), without_blocking().blocking()] {
        let name = step.name().to_owned();
        let report = run(step).await;
        assert_eq!(report.status(), Status::Success, "{report}");
        assert_eq!(*report.get::<i32>(&name).unwrap(), 7);
    }
}

#[railbus::test]
async fn a_blocking_step_has_the_context_of_its_run() {
    let id = |_: step::Input<'_>| railbus::context::current().map(|c| c.id().to_owned());
    let pipeline = Pipeline::new("p").step(StepDef::value("id", id).blocking()).build().unwrap();
    let bus = Bus::new();
    let run = async move |delivery: railbus::delivery::Delivery| {
        let report = pipeline.run_for(&delivery).await;
        assert_eq!(*report.get::<Option<String>>("id").unwrap(), Some("e-1".into()));
        report.into_result()
    };
    bus.on("a").run(run).await.unwrap();
    let report = bus.publish(Event::new("a").id("e-1")).await.unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
}

/// An error that can't even be shown.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words")
    }
}

impl StdError for Unspeakable {}

/// Looks at every field of every log line, as what writes them does.
struct Reader;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Reader {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0 += &format!("{value:?}");
            }
        }
        event.record(&mut Fields(String::new()));
    }
}

#[railbus::test]
async fn an_error_that_can_not_be_shown_is_logged_and_tried_again() {
    use tracing_subscriber::layer::SubscriberExt;
    let subscriber = tracing_subscriber::registry().with(Reader);
    let _reading = tracing::subscriber::set_default(subscriber);
    let report = run(StepDef::fallible("s", |_| Err(Unspeakable.into())).retry(quick(2))).await;
    assert_eq!((report.status(), report.steps()[0].tries), (Status::Exception, 2));
    assert!(report.to_string().contains("can't be shown"), "{report}");
}

#[test]
fn an_error_with_a_cause_that_can_not_be_shown_is_shown() {
    let error = railbus::Error::new(railbus::ErrorKind::Unavailable, "fetch", "it broke");
    let error = error.because(Unspeakable).to_string();
    assert!(error.starts_with("fetch: it broke: an error that can't be shown"), "{error}");
}

#[test]
fn a_retry_that_can_not_wait_ends_with_an_exception_that_says_so() {
    within_a_minute(|| {
        let step = || StepDef::fallible("s", |_| Err("no answer".into())).retry(quick(2));
        let no_clock = Builder::new_current_thread().build().unwrap();
        for (report, said) in [
            (block_on(run(step())), "there is no runtime"),
            (no_clock.block_on(run(step())), "the runtime has no clock"),
        ] {
            let error = report.error().unwrap();
            assert_eq!((error.kind(), report.steps()[0].tries), ("unsupported", 1));
            let line = error.line();
            assert!(line.contains(said) && line.contains("no answer"), "{line}");
        }
        // A last try needs none.
        assert_eq!(block_on(run(step().retry(quick(1)))).error().unwrap().kind(), "error");
    });
}

#[railbus::test]
async fn a_missing_input_is_told_by_the_report_and_no_step_is_blamed() {
    let pipeline = Pipeline::new("p").input::<i64>("n").step(StepDef::value("s", |_| 1));
    let report = pipeline.build().unwrap().run(store! {}).await;
    let text = report.to_string();
    assert!(text.starts_with("p: exception: input: pipeline: the input `n` is missing"), "{text}");
    let error = report.into_result().unwrap_err();
    assert!(error.to_string().starts_with("input: pipeline: the input `n`"), "{error}");
    let error: &railbus::pipeline::RunError = error.downcast_ref().unwrap();
    assert_eq!((error.step(), error.kind()), (None, Some("input")));
}
