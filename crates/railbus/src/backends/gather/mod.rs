//! What many publish at once, put together into few requests: `line` is where they wait, `request` what
//! they become.

mod request;
mod line;
#[cfg(test)]
mod tests;

pub(in crate::backends) use line::Gather;
pub(in crate::backends) use request::{Limits, TRIED_FOR};
