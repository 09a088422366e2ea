//! What the expansion of `#[step]` calls to run a step.

use super::{
    bypass::{Bypass, IntoBypass},
    contract::Ran,
    result::StepResult,
};
use std::{
    future::{Future, ready},
    pin::Pin,
};

/// A step under way.
pub type Pinned<'a> = Pin<Box<dyn Future<Output = StepResult> + Send + 'a>>;

/// Makes what an async step does something to poll.
pub fn later<'a>(running: impl Future<Output = StepResult> + Send + 'a) -> Ran<'a> {
    Ran::Later(Box::pin(running))
}

/// Makes it a future, whatever it is.
pub fn pinned(ran: Ran<'_>) -> Pinned<'_> {
    match ran {
        Ran::Now(came) => Box::pin(ready(came)),
        Ran::Later(running) => running,
    }
}

/// Decides whether a step is passed by.
///
/// # Errors
/// Returns what befell the decision.
pub fn bypass(asked: impl IntoBypass) -> StepResult<Bypass> {
    asked.into_bypass()
}
