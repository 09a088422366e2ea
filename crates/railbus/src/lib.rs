//! Railbus.
#![cfg(unix)]

pub mod clock;
pub mod error;
pub mod id;
pub mod retry;
pub mod shutdown;

pub mod codec;
pub mod event;
pub mod options;
pub mod payload;
pub mod topic;

pub mod backend;
pub mod delivery;
pub mod handler;
pub mod input;
pub mod predicate;
pub mod step;

#[cfg(feature = "app")]
pub mod inputs;
#[cfg(feature = "app")]
pub mod steps;
