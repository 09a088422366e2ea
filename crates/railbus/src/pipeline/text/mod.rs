//! The flow as text, `validate -> charge(0 -> refund, 1 -> ship || notify)`, read into a tree.

mod tree;
mod parse;

pub use parse::{FlowError, FlowName, is_name, parse};
pub use tree::{Branch, Group, Link, Named, Sequence, Unit};
