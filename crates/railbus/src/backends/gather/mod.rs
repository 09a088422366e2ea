//! What many publish at once, put together into few requests: `request` is what they become, `queue` says
//! who goes with which, `line` is where they wait.

mod request;
mod queue;
mod line;
#[cfg(test)]
mod tests;

pub(in crate::backends) use line::Gather;
pub(in crate::backends) use request::Limits;
#[cfg(any(feature = "postgres", feature = "sqs"))]
pub(in crate::backends) use request::TRIED_FOR;
