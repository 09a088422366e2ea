//! Deliveries: an event as handed to a handler, and what becomes of it.

mod lease;
mod reply;
mod handed;
mod outcome;
mod policy;

pub use handed::Delivery;
pub(crate) use handed::Marks;
pub(crate) use lease::ByHand;
pub use lease::{Lease, Nack};
pub(crate) use outcome::of_event;
pub use outcome::{Handled, IntoOutcome, Outcome, Returns, done};
pub use policy::{Class, Decision, End, FailurePolicy, Then, Try};
pub use reply::Reply;
