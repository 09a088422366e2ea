//! What a step with `#[step]` may return: told apart by its type's shape, not by its name.
//!
//! A `Result` can be a value, too, if its parts are `Serialize`. The methods here are chosen by the
//! compiler: one that a type has itself goes before one of a trait.

use super::{
    flow::{Flow, Goto, IntoFlow},
    result::{StepError, StepResult},
    signature::Signature,
};
use std::{any::TypeId, fmt, marker::PhantomData};

/// What may be the error of a step.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the error of a step",
    note = "any error is, if it is Send, Sync and 'static: a type that implements std::error::Error, a Box of one, String, &'static str, anyhow::Error, Failure or StepError"
)]
pub trait IntoStepError {
    /// Makes it a failure, if it is or wraps one, else an exception.
    fn into_step_error(self) -> StepError;
}

#[diagnostic::do_not_recommend]
impl<E: Into<StepError>> IntoStepError for E {
    fn into_step_error(self) -> StepError {
        self.into()
    }
}

/// What a step returned.
pub struct Returned<T>(pub T);

impl<T> fmt::Debug for Returned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Returned")
    }
}

impl<T, E> Returned<Result<T, E>> {
    /// Makes it what the step came to.
    ///
    /// # Errors
    /// Returns how the step did not succeed.
    pub fn into_step_result<M>(self) -> StepResult
    where
        T: IntoFlow<M>,
        E: IntoStepError,
    {
        self.0.map(IntoFlow::into_flow).map_err(IntoStepError::into_step_error)
    }
}

/// What a step that can't fail returned.
pub trait ReturnedValue<T> {
    /// Makes it what the step came to.
    ///
    /// # Errors
    /// Never returns one.
    fn into_step_result<M>(self) -> StepResult
    where
        T: IntoFlow<M>;
}

impl<T> ReturnedValue<T> for Returned<T> {
    fn into_step_result<M>(self) -> StepResult
    where
        T: IntoFlow<M>,
    {
        Ok(self.0.into_flow())
    }
}

/// The type that a step returns.
pub struct Returns<T>(PhantomData<fn() -> T>);

impl<T> Returns<T> {
    /// Names the type.
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> fmt::Debug for Returns<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Returns")
    }
}

impl<T: 'static, E> Returns<Result<T, E>> {
    /// Adds what the step leaves to its signature.
    #[must_use]
    pub fn sign(self, signature: Signature, output: &str) -> Signature {
        leaves::<T>(signature, output)
    }
}

/// The type that a step which can't fail returns.
pub trait ReturnsValue {
    /// Adds what the step leaves to its signature.
    #[must_use]
    fn sign(self, signature: Signature, output: &str) -> Signature;
}

impl<T: 'static> ReturnsValue for Returns<T> {
    fn sign(self, signature: Signature, output: &str) -> Signature {
        leaves::<T>(signature, output)
    }
}

fn leaves<T: 'static>(signature: Signature, output: &str) -> Signature {
    let is = |of: TypeId| TypeId::of::<T>() == of;
    if is(TypeId::of::<Flow>()) || is(TypeId::of::<Goto>()) {
        signature.leaves(output)
    } else if is(TypeId::of::<&'static str>()) {
        // A text for whoever takes it, as every text is.
        signature.output::<String>(output).plain()
    } else {
        signature.output::<T>(output).plain()
    }
}
