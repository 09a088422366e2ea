//! Structs with `#[step]`, what passes a step by, and panics wherever the program's code runs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Event, Failure, IntoStep, Pipeline, Retry, RunReport, Status, StepDef, StepResult, Store,
    Value, any,
    executor::{Executor, Task},
    json,
    pipeline::StepStatus,
    step,
    step::{Bypass, Input, Step, StepError},
    store,
};
use serde::{Deserialize, Serialize, Serializer};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

async fn run<M>(step: impl IntoStep<M>, store: Store) -> RunReport {
    Pipeline::new("p").step(step).build().unwrap().run(store).await
}

fn error(report: &RunReport) -> &str {
    report.steps()[0].error.as_deref().unwrap_or_default()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    email: Option<String>,
}

struct UserRegistration {
    domain: &'static str,
}

#[step(output = "registered")]
impl UserRegistration {
    async fn run(&self, user: &User) -> Result<String, Failure> {
        let name = user.email.as_deref().ok_or_else(|| Failure::new("Email is required"))?;
        Ok(self.address(name).await)
    }

    async fn address(&self, name: &str) -> String {
        format!("{name}@{}", self.domain)
    }
}

struct Scaled<T>(T);

#[step(name = "Scaled", retry = Retry::attempts(2))]
impl<T> Scaled<T>
where
    T: std::ops::Mul<Output = T>
        + Copy
        + Serialize
        + for<'a> Deserialize<'a>
        + Send
        + Sync
        + 'static,
{
    fn run(&self, n: T) -> T {
        self.0 * n
    }
}

#[tokio::test]
async fn a_struct_brings_what_its_step_works_with() {
    let signup = UserRegistration { domain: "example.com" };
    assert_eq!(signup.signature().name(), "user_registration");
    let pipeline = Pipeline::new("p").step(signup).build().unwrap();
    let report = pipeline.run(store! { "user" => User { email: Some("a".into()) } }).await;
    assert_eq!(*report.get::<String>("registered").unwrap(), "a@example.com");
    let report = pipeline.run(store! { "user" => User { email: None } }).await;
    assert_eq!((report.status(), error(&report)), (Status::Failure, "Email is required"));
    assert_eq!(*run(Scaled(2.5), store! { "n" => 4.0 }).await.get::<f64>("Scaled").unwrap(), 10.0);
    assert_eq!(Scaled(3).run(4), 12, "the method is there to be called alone");
}

struct Validation;

#[step]
impl Validation {
    fn can_bypass(&self, role: &str, maintenance: Option<bool>) -> Option<Value> {
        match role {
            "admin" => Some(json!({ "bypass_reason": "admins skip validation" })),
            "broken" => panic!("no role"),
            _ => maintenance?.then(|| json!({ "bypass_reason": "maintenance" })),
        }
    }

    fn run(&self, user: &User) -> Result<User, Failure> {
        user.email.clone().map(|_| user.clone()).ok_or_else(|| Failure::new("no email"))
    }
}

#[tokio::test]
async fn a_step_is_passed_by_and_what_it_says_is_passed_on_bare() {
    let pipeline = Pipeline::new("p").step(Validation).build().unwrap();
    assert_eq!(pipeline.inputs().collect::<Vec<_>>(), ["user", "role"]);
    let run = async |role: &str| {
        pipeline.run(store! { "role" => role.to_owned(), "user" => User { email: None } }).await
    };
    let report = run("admin").await;
    assert_eq!(report.steps()[0].status, StepStatus::Skipped);
    assert_eq!((report.status(), report.steps()[0].tries), (Status::Success, 0));
    let passed = report.get::<Value>("validation").unwrap();
    assert_eq!(*passed, json!({ "bypass_reason": "admins skip validation" }));
    assert_eq!(run("user").await.status(), Status::Failure);
}

#[tokio::test]
async fn an_error_in_a_bypass_is_the_steps_and_the_step_is_not_run() {
    let ran = Arc::new(AtomicU32::new(0));
    let counted = || {
        let ran = Arc::clone(&ran);
        StepDef::value("counted", move |_| ran.fetch_add(1, Ordering::Relaxed))
    };
    let retried = || counted().retry(Retry::attempts(3));
    let panics = retried().bypass(|_: &Input<'_>| -> bool { panic!("who knows") });
    let report = run(panics, store! {}).await;
    assert_eq!((report.status(), error(&report)), (Status::Exception, "panic: who knows"));
    let says_no = retried().bypass(|_| Err::<bool, _>(Failure::new("not you")));
    let report = run(says_no, store! {}).await;
    assert_eq!((report.status(), error(&report)), (Status::Failure, "not you"));
    assert_eq!((report.steps()[0].tries, ran.load(Ordering::Relaxed)), (0, 0));

    let broken = store! { "role" => "broken", "user" => User { email: None } };
    let report = run(Validation, broken).await;
    assert_eq!(error(&report), "panic: no role");
}

fn is_known(input: &Input<'_>) -> bool {
    input.store().has("known")
}

#[step(bypass = is_known)]
fn looked_up(key: &str) -> String {
    format!("{key}!")
}

#[tokio::test]
async fn a_function_is_passed_by_when_its_setting_says_so() {
    let report = run(looked_up, store! { "key" => "a", "known" => true }).await;
    assert_eq!(report.steps()[0].status, StepStatus::Skipped);
    assert_eq!(*report.get::<String>("looked_up").unwrap(), "a", "what came is passed on");
    let report = run(looked_up, store! { "key" => "a" }).await;
    assert_eq!(*report.get::<String>("looked_up").unwrap(), "a!");
    let with = looked_up.bypass(|_| Bypass::with("instead"));
    let report = run(with, store! { "key" => "a" }).await;
    assert_eq!(*report.get::<String>("looked_up").unwrap(), "instead");
}

#[step]
fn sync_panic() {
    panic!("sync");
}

#[step]
async fn async_panic() {
    tokio::task::yield_now().await;
    panic!("async");
}

#[step(blocking)]
fn blocking_panic() {
    panic!("blocking");
}

/// Panics before it returns a future.
#[derive(Debug)]
struct Hasty;

impl Executor for Hasty {
    fn execute<'s, 'f>(&'s self, _: Task) -> Pin<Box<dyn Future<Output = StepResult> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        panic!("hasty")
    }
}

#[tokio::test]
async fn panics_are_contained_wherever_a_step_runs() {
    assert_eq!(error(&run(sync_panic, store! {}).await), "panic: sync");
    assert_eq!(error(&run(async_panic, store! {}).await), "panic: async");
    assert_eq!(error(&run(blocking_panic, store! {}).await), "panic: blocking");
    assert_eq!(error(&run(sync_panic.executor(Hasty), store! {}).await), "panic: hasty");
    let asks = Retry::attempts(3).on_error(|_| panic!("who asks"));
    let report = run(sync_panic.retry(asks), store! {}).await;
    assert_eq!((error(&report), report.steps()[0].tries), ("panic: sync", 1));
}

/// A value that says when it is encoded.
struct Told(Arc<AtomicU32>);

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            n if n >= 1000 => panic!("never encode this"),
            n => to.serialize_u32(n),
        }
    }
}

#[tokio::test]
async fn a_value_that_panics_when_encoded_is_an_error_where_it_is_asked_for() {
    let bad = || Arc::new(AtomicU32::new(1000));
    let leaves = StepDef::value("bad", move |_| Told(bad()));
    let report = run(leaves, store! { "good" => 1 }).await;
    assert_eq!(report.status(), Status::Success, "nothing asked for it");
    let error = report.store().to_json().unwrap_err();
    assert!(error.to_string().contains("name: bad"), "{error}");
    assert!(report.store().as_map().is_err());
    assert!(report.get::<u32>("bad").is_err());
    assert!(format!("{:?} {report:?} {report}", report.store()).contains("good"));

    // A step that wants it as another type gets an exception, no panic of its own.
    let takes = StepDef::fallible("takes", |input| {
        input.get::<u32>("bad")?;
        Ok(step::Flow::Skip)
    });
    let report = run(takes, store! { "bad" => Told(Arc::new(AtomicU32::new(1000))) }).await;
    assert!(matches!(report.error(), Some(StepError::Exception(e)) if e.kind == "input"));
}

#[tokio::test]
async fn a_huge_value_is_handed_on_without_a_copy_or_an_encoding() {
    #[step]
    fn huge() -> Opaque<Vec<u8>> {
        Opaque(vec![7; 64 << 20])
    }
    #[step]
    fn place(huge: &Opaque<Vec<u8>>) -> usize {
        huge.as_ptr() as usize
    }
    use railbus::step::Opaque;
    let pipeline = Pipeline::new("p").step(huge).step(place).build().unwrap();
    let report = pipeline.run(store! {}).await;
    let kept = report.get::<Opaque<Vec<u8>>>("huge").unwrap();
    assert_eq!(*report.get::<usize>("place").unwrap(), kept.as_ptr() as usize);
}

#[tokio::test]
async fn nothing_is_built_for_a_bus_on_which_nobody_listens() {
    let (bus, encoded) = (Bus::new(), Arc::new(AtomicU32::new(0)));
    let tell = Arc::clone(&encoded);
    let step = StepDef::value("told", move |_| Told(Arc::clone(&tell)));
    let built = Pipeline::new("p").step(step).observe(&bus).observe_values().build();
    let pipeline = built.unwrap();
    bus.on("order.placed").run(|_: &Event| ()).now().unwrap();
    assert_eq!(pipeline.run(store! {}).await.status(), Status::Success);
    assert_eq!(encoded.load(Ordering::Relaxed), 0);

    bus.on(any()).run(|_: &Event| ()).now().unwrap();
    assert_eq!(pipeline.run(store! {}).await.status(), Status::Success);
    assert_eq!(encoded.load(Ordering::Relaxed), 1);
}
