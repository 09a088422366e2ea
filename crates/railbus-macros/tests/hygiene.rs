//! The expansions name nothing but `railbus` and the language: not tokio, not the prelude, nothing
//! that the program may call something else.
#![no_implicit_prelude]
#![allow(dead_code, clippy::unwrap_used, clippy::cast_lossless)]

mod std {}
mod core {}
mod tokio {}
struct Result;
struct Option;
struct Ok;
struct Into;
struct From;
struct Duration;
struct IntoEvent;
struct EventBuilder;
struct Vec;
struct String;
struct Box;
struct StepDef;
struct Signature;
struct Returned;

#[derive(::serde::Serialize, ::serde::Deserialize, ::railbus::Event)]
#[event("order.placed", topic = "orders", source = "shop", version = "1.0")]
struct Event {
    order: u32,
}

#[::railbus::test]
async fn a_typed_event_is_published() -> ::railbus::Result<()> {
    let bus = ::railbus::testing::bus().await?;
    let report = bus.publish(Event { order: 1 }).await?;
    ::std::assert_eq!(report.matched, 0);
    ::std::result::Result::Ok(())
}

#[::railbus::test(flavor = "multi_thread", worker_threads = 1, timeout = "1m")]
async fn a_test_returns_nothing() {}

#[::railbus::step(goto = [length], retry = ::railbus::Retry::attempts(2), stop_on_success)]
fn words(
    text: &str,
    list: &[u8],
    input: ::std::option::Option<&u8>,
    signature: ::std::option::Option<u8>,
    state: ::railbus::State<u8>,
) -> ::std::result::Result<u8, ::railbus::Failure> {
    let _ = (text, list, input, signature, state);
    ::std::result::Result::Ok(1)
}

#[::railbus::step]
async fn length(returned: &[u8], argument_0: u8, def: u8) -> usize {
    returned.len() + (argument_0 + def) as usize
}

struct Longest;

#[::railbus::step(blocking)]
impl Longest {
    fn can_bypass(&self, input: bool) -> bool {
        input
    }

    fn run(&self, length: usize, input: bool) -> usize {
        if input { 0 } else { length }
    }
}

#[::railbus::test]
async fn steps_take_arguments_of_any_name() -> ::railbus::Result<()> {
    let pipeline = ::railbus::Pipeline::new("p").state(1u8).step(length).step(Longest).build()?;
    let mut store = ::railbus::store! { "returned" => [1u8], "argument_0" => 2u8, "def" => 3u8 };
    store.set("input", false);
    let report = pipeline.run(store).await;
    ::std::assert_eq!(*report.get::<usize>("longest")?, 6);
    ::std::result::Result::Ok(())
}

mod program {
    #[::railbus::main]
    async fn main() -> ::railbus::Result<()> {
        ::std::result::Result::Ok(())
    }

    #[test]
    fn a_program_runs() {
        ::std::assert_eq!(main(), ::std::process::ExitCode::SUCCESS);
    }
}
