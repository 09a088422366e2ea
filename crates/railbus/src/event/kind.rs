//! The types that Railbus gives a name to.

/// The types that Railbus gives a name to; any other text is a type as well.
///
/// They are texts, so they work in `bus.on(..)`, in `==` and as patterns in `match`.
///
/// # Examples
/// ```
/// use railbus::{Event, Type};
///
/// assert_eq!(Event::new(Type::CREATED).payload(1).event_type(), "created");
/// let known = [Type::UPDATED, Type::DELETED, Type::ACTIVATED, Type::DEACTIVATED, Type::CUSTOM];
/// assert_eq!(known, ["updated", "deleted", "activated", "deactivated", "custom"]);
/// // What the bus tells of handlers, and a pipeline of its steps:
/// let failed = [Type::ERROR, Type::HANDLER_ERROR, Type::STEP_ERROR, Type::PIPELINE_ERROR];
/// let steps = [Type::STEP_START, Type::STEP_END, Type::STEP_RETRY, Type::STEP_SKIPPED];
/// assert_eq!([Type::REPLY, Type::REPLY_ERROR], ["reply", "reply.error"]);
/// let runs = [Type::PIPELINE_START, Type::PIPELINE_END];
/// assert_eq!((failed[1], steps[0], runs[1]), ("handler.error", "step_start", "pipeline_end"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Type;

impl Type {
    /// Something came into being.
    pub const CREATED: &'static str = "created";
    /// Something changed.
    pub const UPDATED: &'static str = "updated";
    /// Something ceased to be.
    pub const DELETED: &'static str = "deleted";
    /// Something was switched on.
    pub const ACTIVATED: &'static str = "activated";
    /// Something was switched off.
    pub const DEACTIVATED: &'static str = "deactivated";
    /// Something went wrong.
    pub const ERROR: &'static str = "error";
    /// Something else.
    pub const CUSTOM: &'static str = "custom";
    /// A handler failed: told by the bus itself, in process only.
    pub const HANDLER_ERROR: &'static str = "handler.error";
    /// Somebody who asked gets an answer.
    pub const REPLY: &'static str = "reply";
    /// Somebody who asked is told that there will be no answer.
    pub const REPLY_ERROR: &'static str = "reply.error";
    /// A run of a pipeline began.
    pub const PIPELINE_START: &'static str = "pipeline_start";
    /// A run of a pipeline ended, all steps done or stopped by one that said so.
    pub const PIPELINE_END: &'static str = "pipeline_end";
    /// A run of a pipeline ended in a failure or an exception.
    pub const PIPELINE_ERROR: &'static str = "pipeline_error";
    /// A step began.
    pub const STEP_START: &'static str = "step_start";
    /// A step ended.
    pub const STEP_END: &'static str = "step_end";
    /// A step ended in a failure or an exception.
    pub const STEP_ERROR: &'static str = "step_error";
    /// A step is tried again.
    pub const STEP_RETRY: &'static str = "step_retry";
    /// A step was not run: bypassed, or not on the way.
    pub const STEP_SKIPPED: &'static str = "step_skipped";
}
