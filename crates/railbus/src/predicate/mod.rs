//! Predicates: which events a subscription wants.

mod interest;
mod expression;
mod several;

pub use expression::{
    Predicate, any, event_type, has_key, key_equals, source_is, source_starts_with, topic,
};
pub use interest::{Clause, Filter, Interest};
