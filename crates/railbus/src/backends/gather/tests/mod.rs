//! What is shown of it.

mod line;
mod away;
