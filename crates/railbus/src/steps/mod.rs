//! Steps that are not Rust: commands.

mod child;

pub mod command;
