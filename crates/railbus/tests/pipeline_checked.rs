//! What building a pipeline refuses, and how values find their steps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Failure, Flow, Pipeline, PipelineBuilder, Retry, State, Status, StepDef,
    Store, json,
    step::{Exception, Input, Opaque, OrFail, Signature, Step, StepError, StepResult},
    store,
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// A step of any signature, which leaves what a function makes of its input.
struct Made<F>(Signature, F);

#[async_trait::async_trait]
impl<F: Fn(Input<'_>) -> StepResult + Send + Sync + 'static> Step for Made<F> {
    fn signature(&self) -> Signature {
        self.0.clone()
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        (self.1)(input)
    }
}

fn sum() -> StepDef {
    let signature = Signature::new("sum").needs::<Vec<i64>>("data").output::<i64>("total");
    StepDef::of(Made(signature, |input: Input<'_>| {
        Ok(Flow::next(input.get::<Vec<i64>>("data")?.iter().sum::<i64>()))
    }))
}

fn load() -> StepDef {
    let signature = Signature::new("load").output::<Vec<i64>>("raw_data");
    StepDef::of(Made(signature, |_: Input<'_>| Ok(Flow::next(vec![1i64, 2, 3]))))
}

fn refused(builder: PipelineBuilder, why: &str, hint: &str) {
    let error = builder.build().expect_err(why);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(why), "{error}");
    assert!(error.advice().unwrap_or_default().contains(hint), "{:?}", error.advice());
}

#[tokio::test]
async fn bindings_rename_what_a_step_takes_and_leaves() {
    let bound = sum().bind("data", "raw_data").bind("total", "result");
    let pipeline = Pipeline::new("p").step(load).step(bound).build().unwrap();
    let report = pipeline.run(Store::new()).await;
    assert_eq!(report.store().to_json().unwrap(), r#"{"raw_data":[1,2,3],"result":6}"#);
}

#[test]
fn what_nothing_leaves_is_a_build_error_where_inputs_are_declared() {
    let declared = Pipeline::new("p").input::<Vec<i64>>("dta").step(sum);
    refused(declared, "nothing leaves `data`, which it needs", "did you mean `dta`?");
}

#[tokio::test]
async fn what_nothing_leaves_is_an_input_where_none_is_declared() {
    let pipeline = Pipeline::new("p").step(sum).build().unwrap();
    assert_eq!(pipeline.inputs().collect::<Vec<_>>(), ["data"]);
    let report = pipeline.run(Store::new()).await;
    assert_eq!(report.status(), Status::Exception);
    assert_eq!(report.steps()[0].tries, 0);
    let Some(StepError::Exception(missing)) = report.error() else { panic!("{report}") };
    assert_eq!(missing.kind, "input");
    assert!(missing.error.to_string().contains("the input `data` is missing"));
    let report = pipeline.run(store! { "data" => vec![5i64] }).await;
    assert_eq!(*report.get::<i64>("total").unwrap(), 5);
}

#[test]
fn mistakes_are_build_errors_that_name_the_step() {
    let typed = |name: &str| {
        StepDef::of(Made(Signature::new(name).output::<String>("data"), |_: Input<'_>| {
            Ok(Flow::Skip)
        }))
    };
    let p = || Pipeline::new("p");
    refused(p(), "a pipeline needs a step", "add one");
    refused(p().step(sum).step(sum), "step `sum` comes twice", "another name");
    refused(
        p().step(typed("words")).step(sum),
        "is a alloc::string::String of step `words`, but is needed as a",
        "types",
    );
    refused(p().input::<String>("data").step(sum), "of an input, but is needed as a", "types");
    refused(
        p().step(sum().bind("dat", "x")),
        "`dat` is bound, but the step needs no `dat`",
        "it needs: data",
    );
    refused(
        p().step(sum().retry(json!({"max_attempt": 3}))),
        "`max_attempt` is not a key",
        "did you mean `max_attempts`?",
    );
    refused(
        p().step(sum().retry(json!({"max_attempts": 0}))),
        "`max_attempts` must be 1 or more",
        "first try",
    );
    let stateful = Made(Signature::new("s").state::<AtomicU32>(), |_: Input<'_>| Ok(Flow::Skip));
    refused(p().step(stateful), "AtomicU32", ".state(value)");
}

#[tokio::test]
async fn steps_take_state_that_the_pipeline_was_given() {
    let count = Made(Signature::new("count").state::<AtomicU32>(), |input: Input<'_>| {
        let count: State<AtomicU32> = input.state()?;
        Ok(Flow::next(count.fetch_add(1, Ordering::Relaxed)))
    });
    let pipeline = Pipeline::new("p").state(AtomicU32::new(7)).step(count).build().unwrap();
    assert_eq!(*pipeline.run(store! {}).await.get::<u32>("count").unwrap(), 7);
    assert_eq!(*pipeline.run(store! {}).await.get::<u32>("count").unwrap(), 8);
}

#[tokio::test]
async fn an_events_payload_fills_a_single_input_or_its_fields_several() {
    let (bus, seen) = (Bus::new(), Arc::new(AtomicU32::new(0)));
    let keep = Arc::clone(&seen);
    let two = Signature::new("two").needs::<i64>("a").needs::<i64>("b");
    let two = Made(two, move |input: Input<'_>| {
        let sum = *input.get::<i64>("a")? * 10 + *input.get::<i64>("b")?;
        keep.store(u32::try_from(sum).unwrap(), Ordering::Relaxed);
        Ok(Flow::next(sum))
    });
    bus.on("two").run(Pipeline::new("p").step(two).build().unwrap()).await.unwrap();
    bus.publish(Event::new("two").payload(json!({"a": 4, "b": 2, "c": 9}))).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 42);

    let pipeline = Pipeline::new("p").step(sum).build().unwrap();
    let report = pipeline.run_event(&Event::new("one").payload(vec![1i64, 2]), 1).await;
    assert_eq!(*report.get::<i64>("total").unwrap(), 3);
    let report = bus.publish(Event::new("two").payload(json!({"a": 4}))).await.unwrap();
    assert!(report.failures[0].error.contains("the input `b` is missing"), "{report:?}");
}

#[test]
fn a_store_keeps_values_as_they_are() {
    let mut store =
        store! { "n" => 1i64, "words" => vec!["a".to_owned()], "hidden" => Opaque(7u8) };
    let (a, b) =
        (store.get::<Vec<String>>("words").unwrap(), store.get::<Vec<String>>("words").unwrap());
    assert!(std::ptr::eq(&*a, &*b), "the value was copied");
    assert_eq!(*store.get::<f64>("n").unwrap(), 1.0, "decoded as another type");
    assert_eq!(**store.get::<Opaque<u8>>("hidden").unwrap(), 7);
    assert!(store.to_json().unwrap_err().to_string().contains("opaque"));
    assert!(store.delete("hidden") && !store.delete("hidden") && !store.has("hidden"));
    assert_eq!(store.to_json().unwrap(), r#"{"n":1,"words":["a"]}"#);
    let error = store.get::<i64>("words").unwrap_err();
    assert!(error.to_string().contains("`words` is not a i64"), "{error}");
    let error = store.get::<i64>("m").unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::NotFound, Some("it has n, words")));
    store.clear();
    assert!(store.is_empty());
}

#[test]
fn a_failure_stays_one_however_it_was_wrapped() {
    fn by_anyhow() -> anyhow::Result<()> {
        Err(Failure::new("sold out").value(json!({"left": 0})))?;
        Ok(())
    }
    fn step() -> StepResult<()> {
        by_anyhow().map_err(|e| e.context("while reserving"))?;
        Ok(())
    }
    let Err(StepError::Failure(failure)) = step() else { panic!("not a failure") };
    assert_eq!((failure.message(), failure.found()), ("sold out", &json!({"left": 0})));
    let other: StepResult<()> = Err(std::io::Error::other("disk").into());
    assert!(matches!(other, Err(StepError::Exception(e)) if e.kind == "error"));
}

#[test]
fn or_fail_makes_an_error_the_steps_decision() {
    let failure = "x".parse::<u8>().or_fail("no number").unwrap_err();
    assert_eq!(failure.to_string(), "no number: invalid digit found in string");
    assert_eq!(None::<u8>.or_fail("nothing").unwrap_err().message(), "nothing");
}

#[tokio::test(start_paused = true)]
async fn a_retry_chooses_errors_by_type_kind_and_test() {
    let tries = |retry: Retry, error: fn() -> StepError| async move {
        let step = StepDef::fallible("s", move |_| Err(error()));
        let report = Pipeline::new("p").step(step.retry(retry)).build()?.run(store! {}).await;
        Ok::<u32, railbus::Error>(report.steps()[0].tries)
    };
    let io: fn() -> StepError = || std::io::Error::other("disk").into();
    let wrapped: fn() -> StepError = || {
        railbus::Error::new(ErrorKind::Full, "write", "can't")
            .because(std::io::Error::other("x"))
            .into()
    };
    let net: fn() -> StepError = || StepError::Exception(Exception::new("net", "reset"));
    let three = || Retry::attempts(3);
    assert_eq!(tries(three().on::<std::io::Error>(), io).await.unwrap(), 3);
    assert_eq!(tries(three().on::<std::io::Error>(), wrapped).await.unwrap(), 3);
    assert_eq!(tries(three().on::<std::fmt::Error>(), io).await.unwrap(), 1);
    assert_eq!(tries(three().on_kind("net"), net).await.unwrap(), 3);
    assert_eq!(tries(three().on_kind("net"), io).await.unwrap(), 1);
    assert_eq!(tries(three().on_kind("net").on::<std::io::Error>(), io).await.unwrap(), 3);
    assert_eq!(tries(three().on_error(|e| e.to_string() == "reset"), net).await.unwrap(), 3);
}

#[tokio::test]
async fn a_blocking_step_leaves_the_runtime_free_and_its_panic_is_contained() {
    let caller = std::thread::current().id();
    let slow = StepDef::value("slow", move |_| std::thread::current().id() != caller).blocking();
    let bad = StepDef::fallible("bad", |_| panic!("oh")).blocking();
    let report = Pipeline::new("p").step(slow).step(bad).build().unwrap().run(store! {}).await;
    assert!(*report.get::<bool>("slow").unwrap());
    assert_eq!(report.steps()[1].error.as_deref(), Some("panic: oh"));
}

#[tokio::test]
async fn a_closure_may_say_what_it_needs_and_leaves_and_is_bound_and_checked() {
    let double = || {
        let work = |input: Input<'_>| Ok(Flow::next(*input.get::<i64>("data")? * 2));
        StepDef::fallible("double", work).needs::<i64>("data").leaves::<i64>()
    };
    let raw = StepDef::value("raw", |_| 4i64).leaves::<i64>();
    let built = Pipeline::new("p").step(raw).step(double().bind("data", "raw"));
    let report = built.build().unwrap().run(store! {}).await;
    assert_eq!(*report.get::<i64>("double").unwrap(), 8);
    let given = Pipeline::new("p").step(double()).build().unwrap();
    assert_eq!(given.inputs().collect::<Vec<_>>(), ["data"]);
    let text = StepDef::value("data", |_| "4").leaves::<String>();
    let error = Pipeline::new("p").step(text).step(double()).build().unwrap_err();
    assert!(error.message().starts_with("`data` is a alloc::string::String"), "{error}");
}

#[test]
fn a_value_without_a_name_is_refused() {
    for step in [load().output(""), sum().bind("data", ""), sum().bind("total", "")] {
        let error = Pipeline::new("p").step(step).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("has a value without a name"), "{error}");
    }
}

#[tokio::test]
async fn of_a_payload_with_several_inputs_a_step_gets_the_optional_ones_too() {
    let signature = Signature::new("price").needs::<i64>("a").needs::<i64>("b");
    let work = |input: Input<'_>| {
        let off = input.get_if::<i64>("discount")?.map_or(0, |off| *off);
        Ok(Flow::next(*input.get::<i64>("a")? + *input.get::<i64>("b")? - off))
    };
    let price = Made(signature.takes::<i64>("discount"), work);
    let pipeline = Pipeline::new("p").step(price).build().unwrap();
    assert_eq!(pipeline.inputs().collect::<Vec<_>>(), ["a", "b"]);
    for (payload, paid) in
        [(json!({"a": 5, "b": 6, "discount": 1}), 10), (json!({"a": 5, "b": 6}), 11)]
    {
        let report = pipeline.run_event(&Event::new("x").payload(payload), 1).await;
        assert_eq!(*report.get::<i64>("price").unwrap(), paid);
    }
}

#[test]
fn a_failures_value_that_can_not_be_encoded_is_told_as_a_cause() {
    let odd = || std::collections::HashMap::from([((1, 2), 3)]);
    let failure = Failure::new("no").value(odd());
    assert_eq!(failure.found(), &json!(null));
    assert_eq!(failure.to_string(), "no: what it found can't be encoded: key must be a string");
    let both = Failure::new("no").value(odd()).because("late").to_string();
    assert!(both.ends_with("key must be a string; late"), "{both}");
}

#[tokio::test]
async fn a_retry_finds_what_anyhow_was_made_from_only_as_a_cause() {
    use std::io;
    let tries = |error: fn() -> anyhow::Error| async move {
        let retry = Retry::attempts(2).backoff_factor(std::time::Duration::ZERO);
        let step = StepDef::fallible("s", move |_| Err(error().into()));
        let step = step.retry(retry.on::<io::Error>());
        let report = Pipeline::new("p").step(step).build().unwrap().run(store! {}).await;
        report.steps()[0].tries
    };
    let gone = || anyhow::Error::from(io::Error::other("gone"));
    // The limit that Retry::on tells of, and what helps.
    assert_eq!(tries(gone).await, 1);
    let said = || anyhow::Error::from(io::Error::other("gone")).context("reading");
    assert_eq!(tries(said).await, 2);
    let test = Retry::attempts(2).on_error(|error| error.to_string().contains("gone"));
    assert!(test.covers("error", &*Box::<dyn std::error::Error + Send + Sync>::from(gone())));
}
