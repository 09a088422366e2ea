//! The flow as text, `validate -> charge(0 -> refund, 1 -> ship || notify)`, read into a tree.

mod error;
mod tree;
mod token;
mod mistake;
mod reader;
mod parse;
mod names;

pub use error::FlowError;
pub use names::unresolved;
pub use parse::parse;
pub use token::is_name;
pub use tree::{Branch, Group, Link, Named, Sequence, Unit};
