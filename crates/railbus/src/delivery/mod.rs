//! Deliveries: an event as handed to a handler, and what becomes of it.

mod lease;
mod reply;
mod handed;
mod outcome;
mod items;
mod policy;

pub use handed::Delivery;
pub(crate) use handed::Marks;
pub(crate) use items::Items;
pub(crate) use lease::{Asked, ByHand, Told};
pub use lease::{Lease, Nack, Settling};
#[doc(hidden)]
pub use outcome::Pending;
pub use outcome::{Handled, IntoOutcome, Outcome, Returns, done};
pub(crate) use outcome::{contained, of_event, panic_text, panicked, undecided};
pub use policy::{Class, Decision, End, FailurePolicy, Then, Try};
pub use reply::Reply;
