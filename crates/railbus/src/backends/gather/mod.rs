//! What many publish at once, put together into few requests: `line` is where they wait.

mod line;
#[cfg(test)]
mod tests;

pub(in crate::backends) use line::{Gather, Limits};
