//! The context: what caused what runs here.
//!
//! A delivery is a context, and so is a [`scope`]. Whatever is published in it takes over its
//! conversation and names it as its cause, and log lines written in it say so.

mod traceparent;
mod tracestate;
mod baggage;
mod trace;
mod current;
mod within;
mod scope;

pub use current::{Context, current};
pub(crate) use current::{deliver, depth, inside, is_outside, span, stamp};
pub use scope::{Scope, scope};
pub use trace::Trace;
pub(crate) use trace::trace_id;
pub use within::spawn;
pub(crate) use within::{Delivering, within};
