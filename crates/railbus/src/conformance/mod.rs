//! The definition of a backend: cases that each must pass, as far as it claims what they show.
//!
//! A [`Suite`] runs on a [`Target`], be it one of Railbus's backends or a third party's, and gives
//! a [`Certificate`]. What the backend's [`Capability`](crate::backend::Capability) claims is
//! tested; what it doesn't claim is asked for and must be refused. Each case keeps a history of
//! everything that its connections did, and is looked at twice: nothing may be lost or invented,
//! and the history may hold nothing that the capability rules out.

mod finding;
mod random;
mod counts;
mod control;
mod proxy;
mod fact;
mod certificate;
mod census;
mod history;
mod crash;
mod rules;
#[cfg(test)]
mod doctored;
mod recorder;
#[cfg(feature = "sqlite")]
mod poison;
mod target;
mod member;
mod seat;
mod stage;
mod refusal;
mod cases;
mod suite;

pub use certificate::{CaseReport, Certificate, Status};
pub use control::Control;
pub use counts::Counts;
pub use fact::{Fact, facts};
pub use member::Member;
pub use suite::Suite;
pub use target::Target;
