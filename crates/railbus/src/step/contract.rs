//! The contract of a step.

use super::{bypass::Bypass, input::Input, result::StepResult, signature::Signature};
use async_trait::async_trait;
use std::{any::Any, fmt, future::Future, pin::Pin};

/// What running a step gives: what it came to, or a future of that.
///
/// # Examples
/// ```
/// use railbus::step::{Flow, Ran};
///
/// let now = Ran::Now(Ok(Flow::next(7)));
/// let later = Ran::Later(Box::pin(async { Ok(Flow::Skip) }));
/// assert!(matches!(now, Ran::Now(Ok(_))) && matches!(later, Ran::Later(_)));
/// # Ok::<(), railbus::Error>(())
/// ```
#[non_exhaustive]
pub enum Ran<'a> {
    /// The step is through.
    Now(StepResult),
    /// The step goes on when polled.
    Later(Pin<Box<dyn Future<Output = StepResult> + Send + 'a>>),
}

/// A unit of work in a pipeline. May be run by many tasks at once.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, StepResult, step::{Flow, Input, Signature, Step}, store};
///
/// struct Sum;
///
/// #[async_trait::async_trait]
/// impl Step for Sum {
///     fn signature(&self) -> Signature {
///         Signature::new("Sum").needs::<Vec<i64>>("data").output::<i64>("sum")
///     }
///
///     async fn run(&self, input: Input<'_>) -> StepResult {
///         Ok(Flow::next(input.get::<Vec<i64>>("data")?.iter().sum::<i64>()))
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let pipeline = Pipeline::new("numbers").step(Sum).build()?;
/// let report = pipeline.run(store! { "data" => vec![1i64, 2, 3] }).await;
/// assert_eq!(*report.store().get::<i64>("sum")?, 6);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Step: Send + Sync + 'static {
    /// Returns the step's name, what it needs and what it leaves. Must always be the same.
    fn signature(&self) -> Signature;

    /// Tells whether the step has nothing to do here, and what is passed on then (default: it is
    /// always run). Asked once before the first try.
    ///
    /// # Errors
    /// Returns how the step did not succeed: it is not run then, nor asked again.
    fn can_bypass(&self, input: &Input<'_>) -> StepResult<Bypass> {
        let _ = input;
        Ok(Bypass::No)
    }

    /// Runs the step once.
    ///
    /// # Cancel safety
    /// If it is dropped, the work is given up and leaves nothing behind.
    async fn run(&self, input: Input<'_>) -> StepResult;

    /// Runs the step once, without a future if it needs none (default: by [`Step::run`]).
    fn call<'a>(&'a self, input: Input<'a>) -> Ran<'a> {
        Ran::Later(self.run(input))
    }

    /// Says how a pipeline holds the step: gets and returns a `StepDef`, which stands on a floor
    /// below. For `#[step(..)]` alone.
    #[doc(hidden)]
    fn held(&self, def: Box<dyn Any>) -> Box<dyn Any> {
        def
    }
}

/// A step whose name is known to the compiler, as that of every `#[step]` is.
///
/// # Examples
/// ```
/// use railbus::{step, step::Named};
///
/// #[step(name = "Charge")]
/// fn charge() {}
///
/// assert_eq!(charge::NAME, "Charge");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a step with a name of its own",
    note = "name a function or a struct with `#[step]`, or give the step's name as a text"
)]
pub trait Named {
    /// The step's own name.
    const NAME: &'static str;
}

impl fmt::Debug for dyn Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Step({})", self.signature().name())
    }
}
