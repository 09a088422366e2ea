//! The expansions name nothing but `railbus` and the language: not tokio, not the prelude, nothing
//! that the program may call something else.
#![no_implicit_prelude]
#![allow(dead_code, clippy::unwrap_used)]

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
