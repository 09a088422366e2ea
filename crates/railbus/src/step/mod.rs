//! Steps: units of work, and what they come to.

mod flow;
mod result;
mod store;
mod signature;
mod input;
mod contract;

pub use contract::{Ran, Step};
pub use flow::{Branch, Flow, Goto, IntoFlow};
pub use input::{Bindings, Input, InputParts};
pub use result::{Exception, Failure, OrFail, StepError, StepResult};
pub(crate) use signature::Kind;
pub use signature::{Need, Signature};
pub use store::{Opaque, Store};
