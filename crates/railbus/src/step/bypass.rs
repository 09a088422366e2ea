//! Whether a step is run at all.

use super::result::{StepError, StepResult};
use crate::payload::RawPayload;
use serde::Serialize;

/// Whether a step is run, or passed by.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, StepResult, step, step::{Bypass, Input}, store};
///
/// #[step(bypass = small)]
/// fn discount(total: i64) -> i64 {
///     total * 9 / 10
/// }
///
/// fn small(input: &Input<'_>) -> StepResult<Bypass> {
///     Ok(match *input.get::<i64>("total")? {
///         0 => Bypass::with(1i64),
///         1..100 => Bypass::Pass,
///         _ => Bypass::No,
///     })
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let pipeline = Pipeline::new("prices").step(discount).build()?;
/// for (total, paid) in [(0, 1), (50, 50), (200, 180)] {
///     let report = pipeline.run(store! { "total" => total }).await;
///     assert_eq!(*report.store().get::<i64>("discount")?, paid);
/// }
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Bypass {
    /// It is run.
    No,
    /// It is not run; the value that came is passed on as it is, if the step needs just one.
    Pass,
    /// It is not run; this is passed on in place of its value.
    With(RawPayload),
}

impl Bypass {
    /// Passes a value on, bare, in place of the step's.
    pub fn with<T: Serialize + Send + Sync + 'static>(value: T) -> Self {
        Self::With(RawPayload::of(value))
    }
}

/// What may say whether a step is passed by: whether it is (`bool`), what is passed on if it is
/// (an `Option`), a [`Bypass`], or a `Result` of one.
///
/// # Examples
/// ```
/// use railbus::step::{Bypass, IntoBypass};
///
/// assert_eq!(true.into_bypass().unwrap(), Bypass::Pass);
/// assert_eq!(None::<u32>.into_bypass().unwrap(), Bypass::No);
/// assert_eq!(Some(7).into_bypass().unwrap(), Bypass::with(7));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whether a step is passed by",
    note = "return a bool, an Option of what is passed on instead, a Bypass, or a Result of one",
    note = "what is passed on is Serialize, Send, Sync and 'static"
)]
pub trait IntoBypass {
    /// Makes it a decision.
    ///
    /// # Errors
    /// Returns what befell it: the step did not succeed then.
    fn into_bypass(self) -> StepResult<Bypass>;
}

impl IntoBypass for Bypass {
    fn into_bypass(self) -> StepResult<Bypass> {
        Ok(self)
    }
}

impl IntoBypass for bool {
    fn into_bypass(self) -> StepResult<Bypass> {
        Ok(if self { Bypass::Pass } else { Bypass::No })
    }
}

impl<T: Serialize + Send + Sync + 'static> IntoBypass for Option<T> {
    fn into_bypass(self) -> StepResult<Bypass> {
        Ok(self.map_or(Bypass::No, Bypass::with))
    }
}

impl<T: IntoBypass, E: Into<StepError>> IntoBypass for Result<T, E> {
    fn into_bypass(self) -> StepResult<Bypass> {
        self.map_err(Into::into)?.into_bypass()
    }
}

/// What may say whether a step is run: a `bool`, or a `Result` of one.
///
/// # Examples
/// ```
/// use railbus::step::IntoCondition;
///
/// assert!(true.into_condition().unwrap());
/// assert!("7".parse::<u8>().map(|n| n > 3).into_condition().unwrap());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whether a step is run",
    note = "return a bool, or a Result of one"
)]
pub trait IntoCondition {
    /// Makes it a decision.
    ///
    /// # Errors
    /// Returns what befell it: the step did not succeed then.
    fn into_condition(self) -> StepResult<bool>;
}

impl IntoCondition for bool {
    fn into_condition(self) -> StepResult<bool> {
        Ok(self)
    }
}

impl<E: Into<StepError>> IntoCondition for Result<bool, E> {
    fn into_condition(self) -> StepResult<bool> {
        self.map_err(Into::into)
    }
}
