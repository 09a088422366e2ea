//! Steps that are not Rust: commands.

mod document;
mod answer;
mod guardian;

mod child;

pub mod command;
