#![doc = include_str!("../README.md")]

#[cfg(not(unix))]
compile_error!("railbus runs on Linux (macOS: best effort); Windows is not supported");

mod sync;
#[cfg(feature = "testing")]
mod pretend;
pub mod error;
pub mod id;
pub mod retry;
pub mod clock;
pub mod shutdown;
pub mod cancel;
#[cfg(feature = "processes")]
mod guardian;
pub mod instrument;
mod task;
mod excerpt;
mod text_file;

pub mod topic;
pub mod payload;
pub mod event;
pub mod schedule;
pub mod context;
pub mod options;
pub mod codec;

pub mod state;
pub mod predicate;
pub mod step;
pub mod delivery;
pub mod accounts;
pub mod transfer;
pub mod keeper;
pub mod commons;
pub mod journal;
pub mod capability;
pub mod backend;
pub mod handler;
pub mod credit;
pub mod middleware;
pub mod executor;
pub mod input;

pub mod middlewares;
pub mod backends;
pub mod executors;
#[cfg(feature = "processes")]
pub mod worker;
pub mod inputs;
#[cfg(any(feature = "app", feature = "http"))]
pub mod steps;

mod consumer;

pub mod bus;
#[cfg(feature = "webhook")]
pub mod webhook;

pub mod pipeline;

#[cfg(feature = "app")]
pub mod app;

pub mod conformance;
mod runtime;
pub mod testing;

pub use backend::Backend;
pub use bus::{
    Bus, CachedRegistry, Consumer, Producer, Report, Subscriber, Subscription, SubscriptionId,
};
pub use cancel::Cancel;
pub use context::Context;
pub use delivery::{Handled, Reply, done};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use event::{Event, EventBuilder, IntoEvent, Type};
pub use handler::{AsyncHandler, Batch, Payload, SyncHandler};
pub use options::Options;
pub use pipeline::{
    Evaluation, IntoStep, Pipeline, PipelineBuilder, RunReport, Status, StepDef, Steps, chain,
    each, parallel, repeat,
};
pub use predicate::{
    Predicate, any, event_type, has_key, key_equals, source_is, source_starts_with, topic,
};
pub use railbus_macros::{Event, main, step, test};
pub use retry::Retry;
pub use schedule::Schedule;
pub use serde_json::{Map, Value, json};
pub use state::State;
pub use step::{Failure, Flow, OrFail, StepError, StepResult, Store};

/// What the expansions of the macros name; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        runtime::{Runtime, run_main},
        step::{
            argument::{give, lend, need, need_if, needs, takes},
            made::{Pinned, bypass, later, pinned},
            returned::{Returned, ReturnedValue, Returns, ReturnsValue},
        },
        testing::{Failed, run_test},
    };
}
