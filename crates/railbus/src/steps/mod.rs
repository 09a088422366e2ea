//! Steps that are not Rust: commands, workers, and requests to a server.

mod document;
mod answer;
#[cfg(feature = "app")]
mod child;

#[cfg(feature = "app")]
pub mod worker;

#[cfg(feature = "app")]
pub mod command;
#[cfg(feature = "http")]
pub mod http;
