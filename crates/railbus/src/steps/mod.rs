//! Steps that are not Rust: commands.

mod guardian;

mod child;

pub mod command;
