//! The macros of Railbus. Use them through the crate `railbus`, which their expansions name.

mod attributes;
mod entry;
mod event;
mod step;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, Item, ItemFn, parse_macro_input, spanned::Spanned};

/// Makes a struct or enum the payload of one type of events.
///
/// It gives the type `TYPE`, the type of its events as a `&'static str`; makes it something that
/// `bus.publish(..)` and `bus.emit(..)` take; and gives it `into_draft()`, an
/// [`EventBuilder`](https://docs.rs/railbus/latest/railbus/struct.EventBuilder.html) that holds it,
/// for when there is more to say: an id, a key of the conversation, metadata.
///
/// `#[event("order.placed")]` names the type of the events; there may follow `topic`, where they
/// are published (default: the type), `source`, who says so (default: nobody), and `version`, that
/// of the payload's schema (default: none). The payload owns its data and has no type parameters;
/// it is `Serialize`, and `Deserialize` where handlers take it as `Payload<T>`.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Payload};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event("order.placed", topic = "orders", source = "shop", version = "1.0")]
/// struct OrderPlaced {
///     order: String,
/// }
///
/// let bus = Bus::new();
/// bus.on(OrderPlaced::TYPE).run(|placed: Payload<OrderPlaced>| println!("{}", placed.order)).now()?;
/// bus.emit(OrderPlaced { order: "A-1".into() })?;
///
/// let placed = OrderPlaced { order: "A-2".into() };
/// let event = Event::from(placed.into_draft().id("evt_123"));
/// assert_eq!((event.id(), event.topic(), event.get("order")), ("evt_123", "orders", Some("A-2")));
/// # Ok::<(), railbus::Error>(())
/// ```
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    event::derive(&parse_macro_input!(input as DeriveInput)).into()
}

/// Makes an async `main` a program: starts a runtime and runs it there.
///
/// The runtime has as many threads as there are processors; `worker_threads = 4` says how many,
/// `flavor = "current_thread"` that there are none beside the main one. With `steps = EXPR`, a
/// [`Steps`](https://docs.rs/railbus/latest/railbus/struct.Steps.html), the program can start itself
/// again to run these steps in processes (feature `processes`): where it was started for that,
/// `main` is not run. `main` returns nothing, an
/// `ExitCode`, or a `Result` of them with any error that is Send and Sync, such as `railbus::Error`,
/// `railbus::BoxError` or anyhow's, but not `Box<dyn Error>`. An error is told on stderr, as `error: ..`
/// and, where it is known what to do about it, `help: ..`, and the program exits with 1.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event};
///
/// #[railbus::main]
/// async fn main() -> railbus::Result<()> {
///     let bus = Bus::new();
///     bus.on("greeting").run(async |event: Event| println!("{event:?}")).await?;
///     bus.publish(Event::new("greeting").payload("hello")).await?;
///     bus.close().await
/// }
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    entry::main(arguments.into(), &parse_macro_input!(item as ItemFn)).into()
}

/// Makes an async function a test that ends: one that takes longer than its limit fails.
///
/// The limit is 60 seconds unless `timeout = "5s"` says otherwise; it holds for a test that blocks
/// its thread, too. The runtime is the test's own, on one thread; `flavor = "multi_thread"` and
/// `worker_threads = 4` ask for more. With the feature `testing`, `time = "virtual"` lets time jump to
/// what is due next whenever nothing is left to do (see `railbus::testing::time`). The test returns nothing, or a `Result<(), E>` with any error
/// that is Send and Sync, which is told with what to do about it.
///
/// # Examples
/// ```
/// use railbus::{Event, any, testing};
///
/// #[railbus::test(timeout = "5s")]
/// async fn an_order_is_heard() -> railbus::Result<()> {
///     let (bus, heard) = (testing::bus().await?, testing::Recorder::new());
///     bus.on(any()).run(heard.clone()).await?;
///     bus.publish(Event::new("order.placed")).await?;
///     assert_eq!(heard.types(), ["order.placed"]);
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    entry::test(arguments.into(), &parse_macro_input!(item as ItemFn)).into()
}

/// Makes a function, or the impl block of a struct, a step of a pipeline.
///
/// The arguments of the function are what the step needs: the values of the run that go by their
/// names. What it returns is stored under the step's name, for the steps after it. Both are known
/// when the pipeline is built: a value that is missing or of another type is refused there.
///
/// A function `charge` becomes a function without arguments that makes a
/// [`StepDef`](https://docs.rs/railbus/latest/railbus/struct.StepDef.html): it is given as it is,
/// `.step(charge)`, or with what holds for this use alone, `.step(charge.retry(Retry::attempts(3)))`.
/// `charge::call(..)` calls the function itself, as a test does.
///
/// # Arguments
/// - `&T`, `&str`, `&[T]`: a value of the run, lent; a `&str` is stored as a `String`, a `&[T]` as a
///   `Vec<T>`. `T` is `Deserialize`, `Send` and `Sync`; a value that was left as a `T` is not
///   copied, any other is decoded.
/// - `T`: the same, cloned.
/// - `Option<&T>`, `Option<T>` and so on: a value that may be missing or `null`.
/// - `State<T>`: what the pipeline was given by `.state(..)`, checked when it is built.
/// - `Event`, `&Event` and `Context`: what caused the run; an exception of kind `event` if nothing
///   did. As `Option<Event>` it may be missing.
/// - `Cancel`: whether anybody still waits for what the step comes to.
/// - `Input<'_>`: all of it, for what is not known before.
///
/// # What it returns
/// Any value that is `Serialize`, `Send`, `Sync` and `'static`, wrapped in `Opaque` if it is not;
/// nothing; `Flow`, which says where the run goes; or a `Result` of one of these, with any
/// error: `Failure` if the step says no, also wrapped in another, such as anyhow's; every other
/// error is an exception.
///
/// # Where it runs
/// A sync function runs in the task that runs the pipeline, so it must not block; with `blocking`
/// it runs on the runtime's threads for such work. An async function is awaited. A panic is an
/// exception of kind `panic`.
///
/// # Settings
/// | setting | means | default |
/// |---|---|---|
/// | `name = "Load"` | the step's name | the function's, or the struct's in snake case |
/// | `output = "data"` | the name of its value | the step's name |
/// | `blocking` | it blocks its thread | it does not |
/// | `executor = EXPR` | as `StepDef::executor` | the task that runs the pipeline |
/// | `retry = EXPR` | as `StepDef::retry` | it is tried once |
/// | `timeout = EXPR` | as `StepDef::timeout` | it takes as long as it likes |
/// | `bypass = EXPR` | as `StepDef::bypass` | it is always run |
/// | `stop_on_success`, `stop_on_error`, `stop_on_exception` (`= EXPR`) | as those of `StepDef` | as the pipeline says |
/// | `goto = [premium, "regular"]` | the steps it may jump to, by path or by name | none |
///
/// What is said where a step is used goes before what is said here.
///
/// # A struct
/// On the impl block of a struct, `fn run(&self, ..)` is the step, and `fn can_bypass(&self, ..)`,
/// if there is one, says whether it is passed by: a `bool`, or as an `Option` what is passed on
/// in place of its value. Other items may stand beside them.
///
/// # Examples
/// ```
/// use railbus::{Failure, Pipeline, Status, step, store};
///
/// #[step(output = "data")]
/// fn load() -> Vec<i64> {
///     vec![1, 2, 3]
/// }
///
/// #[step]
/// async fn sum(data: &[i64]) -> Result<i64, Failure> {
///     if data.is_empty() {
///         return Err(Failure::new("nothing to sum"));
///     }
///     Ok(data.iter().sum())
/// }
///
/// struct AtMost(i64);
///
/// #[step]
/// impl AtMost {
///     fn run(&self, sum: i64) -> i64 {
///         sum.min(self.0)
///     }
/// }
///
/// #[railbus::main]
/// async fn main() -> railbus::Result<()> {
///     let pipeline = Pipeline::new("numbers").step(load).step(sum).step(AtMost(5)).build()?;
///     let report = pipeline.run(store! {}).await;
///     assert_eq!(report.status(), Status::Success);
///     assert_eq!(*report.get::<i64>("at_most")?, 5);
///     assert!(sum::call(&[]).await.is_err());
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn step(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match parse_macro_input!(item as Item) {
        Item::Fn(function) => step::function(arguments.into(), &function).into(),
        Item::Impl(block) => step::block(arguments.into(), &block).into(),
        other => {
            let why = "`#[step]` goes on a function, or on the impl block of a struct";
            let error = Error::new(other.span(), why).into_compile_error();
            quote::quote!(#other #error).into()
        }
    }
}
