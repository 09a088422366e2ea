//! What can be an argument of a step with `#[step]`.

use super::{
    input::Input,
    result::{Exception, StepError, StepResult},
    signature::Signature,
};
use crate::{
    cancel::Cancel,
    context::{self, Context},
    event::Event,
    payload::Shared,
    state::State,
};
use serde::de::DeserializeOwned;
use std::{
    any::{Any, TypeId},
    borrow::Borrow,
};

/// What a step can take by reference, `&T`: any value that can be stored and read back.
#[diagnostic::on_unimplemented(
    message = "`&{Self}` can't be an argument of a step",
    label = "not taken from the values of a run",
    note = "an argument is a `&T` or a `T` that is Deserialize, Send, Sync and 'static (`T` also Clone), `&str`, `&[T]`, or an Option of one",
    note = "or what it runs with, by value: `State<T>`, `Event`, `Context`, `Cancel`, `Input<'_>`",
    note = "a value that need not be encodable is taken as `&Opaque<T>`"
)]
pub trait Stored: DeserializeOwned + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned + Send + Sync + 'static> Stored for T {}

/// What a step can take by value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of a step",
    label = "not taken from a run",
    note = "an argument is a `&T` or a `T` that is Deserialize, Send, Sync and 'static (`T` also Clone), `&str`, `&[T]`, or an Option of one",
    note = "or what it runs with, by value: `State<T>`, `Event`, `Context`, `Cancel`, `Input<'_>`",
    note = "a value that need not be encodable is taken as `&Opaque<T>`"
)]
pub trait Argument<'a, Marker>: Sized {
    /// Adds what it needs to the step's signature.
    fn sign(signature: Signature, name: &str) -> Signature;

    /// Takes it for one run of the step.
    ///
    /// # Errors
    /// Returns an exception of kind `input`, `state` or `event` if it is not there.
    fn take(input: &Input<'a>, name: &str) -> StepResult<Self>;
}

/// Marks values of the run.
#[derive(Debug)]
pub struct IsStored;
/// Marks what a step runs with.
#[derive(Debug)]
pub struct IsPart;

#[diagnostic::do_not_recommend]
impl<T: Stored + Clone> Argument<'_, IsStored> for T {
    fn sign(signature: Signature, name: &str) -> Signature {
        needs::<T>(signature, name)
    }

    fn take(input: &Input<'_>, name: &str) -> StepResult<Self> {
        Ok(T::clone(&*need::<T>(input, name)?))
    }
}

impl<T: Send + Sync + 'static> Argument<'_, IsPart> for State<T> {
    fn sign(signature: Signature, _: &str) -> Signature {
        signature.state::<T>()
    }

    fn take(input: &Input<'_>, _: &str) -> StepResult<Self> {
        input.state()
    }
}

impl Argument<'_, IsPart> for Context {
    fn sign(signature: Signature, _: &str) -> Signature {
        signature
    }

    fn take(input: &Input<'_>, _: &str) -> StepResult<Self> {
        let context = context::current().or_else(|| input.event().map(context::inside));
        context.ok_or_else(|| no_event("Context"))
    }
}

impl Argument<'_, IsPart> for Cancel {
    fn sign(signature: Signature, _: &str) -> Signature {
        signature
    }

    fn take(input: &Input<'_>, _: &str) -> StepResult<Self> {
        Ok(input.cancel.cloned().unwrap_or_default())
    }
}

impl<'a> Argument<'a, IsPart> for Input<'a> {
    fn sign(signature: Signature, _: &str) -> Signature {
        signature.whole()
    }

    fn take(input: &Input<'a>, _: &str) -> StepResult<Self> {
        Ok(*input)
    }
}

/// An event is the one that the step runs for, no value of the run.
fn is_event<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<Event>()
}

fn no_event(wanted: &str) -> StepError {
    let why = format!("a step takes {wanted}, but no event caused this run");
    StepError::Exception(Exception::new("event", why))
}

/// Adds a `T` that a step can't do without. Of any `T`, so that [`need`] alone says what may be one.
pub fn needs<T: 'static>(signature: Signature, name: &str) -> Signature {
    if is_event::<T>() { signature } else { signature.needs::<T>(name) }
}

/// Adds a `T` that may be missing.
pub fn takes<T: 'static>(signature: Signature, name: &str) -> Signature {
    if is_event::<T>() { signature } else { signature.takes::<T>(name) }
}

/// Takes a `T`.
///
/// # Errors
/// Returns an exception if it is missing or no `T`.
pub fn need<T: Stored>(input: &Input<'_>, name: &str) -> StepResult<Shared<T>> {
    if is_event::<T>() {
        return event(input).ok_or_else(|| no_event("Event"));
    }
    input.get(name)
}

/// Takes a `T` if it is there.
///
/// # Errors
/// Returns an exception if it is there and no `T`.
pub fn need_if<T: Stored>(input: &Input<'_>, name: &str) -> StepResult<Option<Shared<T>>> {
    if is_event::<T>() {
        return Ok(event(input));
    }
    input.get_if(name)
}

/// Returns the event as what its type is known to be.
fn event<T: Stored>(input: &Input<'_>) -> Option<Shared<T>> {
    let event: Box<dyn Any> = Box::new(input.event()?.clone());
    event.downcast().ok().map(|event| Shared::of(*event))
}

/// Lends what may be missing as what the step takes: a `String` as `&str`, a `Vec<T>` as `&[T]`.
pub fn lend<T: Borrow<U>, U: ?Sized>(value: &Option<Shared<T>>) -> Option<&U> {
    value.as_deref().map(Borrow::borrow)
}

/// Gives what may be missing.
pub fn give<T: Clone>(value: &Option<Shared<T>>) -> Option<T> {
    value.as_deref().cloned()
}
