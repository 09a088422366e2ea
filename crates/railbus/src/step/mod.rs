//! Steps: units of work, and what they come to.

mod flow;
mod result;
mod store;
mod items;
mod signature;
mod input;
pub(crate) mod argument;
pub(crate) mod returned;
mod bypass;
mod contract;
pub(crate) mod made;

pub use argument::{Argument, IsPart, IsStored, Stored};
pub use bypass::{Bypass, IntoBypass, IntoCondition};
pub use contract::{Named, Ran, Step};
pub use flow::{Branch, Flow, Goto, IntoFlow};
pub use input::{Bindings, Input, InputParts};
pub use items::Items;
pub(crate) use items::{Joined, split};
pub use result::{Exception, Failure, OrFail, StepError, StepResult};
pub use returned::IntoStepError;
pub(crate) use signature::Kind;
pub use signature::{Need, Signature};
pub use store::{Opaque, Store};
