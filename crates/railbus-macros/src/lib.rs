//! The macros of Railbus. Use them through the crate `railbus`, which their expansions name.

mod attributes;
mod entry;
mod event;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemFn, parse_macro_input};

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
/// `flavor = "current_thread"` that there are none beside the main one. `main` returns nothing, an
/// `ExitCode`, or a `Result` of them with any error. An error is told on stderr, as `error: ..` and,
/// where it is known what to do about it, `help: ..`, and the program exits with 1.
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
/// `worker_threads = 4` ask for more. The test returns nothing, or a `Result<(), E>` with any error,
/// which is told with what to do about it.
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
