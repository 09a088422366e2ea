//! What an app file says, resolved: plain data, every default filled in.

use super::{layers::LayersSpec, work::WorkSpec};
#[cfg(feature = "webhook")]
use crate::webhook::Endpoint;
use crate::{
    delivery::{FailurePolicy, Then},
    event::Type,
    options::Options,
    pipeline::Evaluation,
    predicate::{self, Predicate},
    retry::Retry,
    schedule::Schedule,
};
use serde_json::Value;
use std::{path::PathBuf, time::Duration};

/// An app: its bus, its inputs, and what runs for which events.
///
/// # Examples
/// ```
/// use railbus::app::{AppSpec, EachSpec, InputSpec, NdjsonSpec, PipelineSpec, ScheduleSpec, StepSpec};
/// use railbus::app::SubscriptionSpec;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("app.toml");
/// std::fs::write(&path, r#"
///     bus.url = "memory:"
///     steps.check.command = ["cat"]
///     pipelines.look.flow = "check"
///     on = [{ type = "tick", pipeline = "look" }]
///     [[input]]
///     kind = "interval"
///     every = "1m"
///     type = "tick"
///     [[input]]
///     kind = "ndjson"
///     path = "-"
/// "#).unwrap();
/// let app = AppSpec::load(&path, std::iter::empty()).unwrap();
/// let step: &StepSpec = app.step("check").unwrap();
/// let pipeline: &PipelineSpec = app.pipeline("look").unwrap();
/// assert_eq!(pipeline.steps, [step.name.as_str()]);
/// let on: &SubscriptionSpec = &app.subscriptions[0];
/// assert!(on.predicate().matches(&railbus::Event::new("tick").payload(1)));
/// assert_eq!(on.policy().retry.max_attempts(), 1);
/// for input in &app.inputs {
///     println!("{}", input.name());
///     match input {
///         InputSpec::Schedule(ScheduleSpec { schedule, .. }) => assert!(schedule.is_endless()),
///         InputSpec::Ndjson(NdjsonSpec { path, .. }) => assert!(path.is_none()),
///         _ => {}
///     }
/// }
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct AppSpec {
    /// Where events travel; a relative path of an embedded store is resolved.
    pub bus: Options,
    /// Where events come from, in the file's order.
    pub inputs: Vec<InputSpec>,
    /// The steps, in the file's order, used or not.
    pub steps: Vec<StepSpec>,
    /// The pipelines, in the file's order, used or not.
    pub pipelines: Vec<PipelineSpec>,
    /// Which events go to which pipeline, in the file's order.
    pub subscriptions: Vec<SubscriptionSpec>,
    /// The folder of the file, absolute; commands run there.
    pub folder: PathBuf,
}

/// What Railbus tells of itself.
const OWN: [&str; 9] = [
    Type::HANDLER_ERROR,
    Type::PIPELINE_START,
    Type::PIPELINE_END,
    Type::PIPELINE_ERROR,
    Type::STEP_START,
    Type::STEP_END,
    Type::STEP_ERROR,
    Type::STEP_RETRY,
    Type::STEP_SKIPPED,
];

impl AppSpec {
    /// Returns the step of that name.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&StepSpec> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// Tells whether a subscription wants what Railbus tells of pipelines: `step_error`, say.
    pub(super) fn hears_steps(&self) -> bool {
        let own = |on: &SubscriptionSpec| {
            let wanted = on.event_type.as_deref().unwrap_or_default();
            OWN.contains(&wanted) && wanted != Type::HANDLER_ERROR
        };
        self.subscriptions.iter().any(own)
    }

    /// Returns the pipeline of that name.
    #[must_use]
    pub fn pipeline(&self, name: &str) -> Option<&PipelineSpec> {
        self.pipelines.iter().find(|pipeline| pipeline.name == name)
    }
}

/// A source of events.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum InputSpec {
    /// One JSON object a line.
    Ndjson(NdjsonSpec),
    /// One event for each tick of a schedule: at intervals, by a cron expression, at given times.
    Schedule(ScheduleSpec),
    /// What is posted to the app.
    #[cfg(feature = "webhook")]
    Http(HttpSpec),
}

impl InputSpec {
    /// Tells whether it never ends by itself.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        match self {
            Self::Ndjson(_) => false,
            Self::Schedule(spec) => spec.schedule.is_endless(),
            #[cfg(feature = "webhook")]
            Self::Http(_) => true,
        }
    }

    /// Returns the input's name, which no other input of the app has.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Ndjson(spec) => &spec.name,
            Self::Schedule(spec) => &spec.name,
            #[cfg(feature = "webhook")]
            Self::Http(spec) => &spec.name,
        }
    }
}

/// An input that is posted to; senders are told when the bus has their events.
///
/// # Examples
/// ```
/// use railbus::{Options, app::{HttpSpec, InputSpec}};
///
/// let options = Options::parse("webhook:/hooks?port=8080")?;
/// let input = InputSpec::Http(HttpSpec { name: "/hooks".into(), options });
/// assert!(input.is_endless() && input.name() == "/hooks");
/// # Ok::<(), railbus::Error>(())
/// ```
#[cfg(feature = "webhook")]
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSpec {
    /// Its name (default: the path).
    pub name: String,
    /// Where it listens, and what of a request is what of an event.
    pub options: Options,
}

/// An input that reads one JSON object a line.
#[derive(Clone, Debug, PartialEq)]
pub struct NdjsonSpec {
    /// The name positions are stored under (default: the path as the file has it).
    pub name: String,
    /// The file, absolute; `None` is the standard input.
    pub path: Option<PathBuf>,
    /// The key that holds the event's type (default `type`).
    pub type_field: String,
    /// The key that holds the payload; `None`: the whole object is the payload.
    pub payload_field: Option<String>,
    /// The topic, where `{key}` stands for a key of the object; `None`: the type is the topic.
    pub topic: Option<String>,
}

/// An input that makes one event for each tick of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSpec {
    /// The name its ticks are known by on the bus (default: the type).
    pub name: String,
    /// When it ticks, how its ticks are spread, and what becomes of missed ones.
    pub schedule: Schedule,
    /// The type of the events.
    pub event_type: String,
    /// The topic of the events; `None`: the type is the topic.
    pub topic: Option<String>,
    /// The payload of the events (default `null`).
    pub payload: Value,
}

/// Where events are posted to, and how: two are equal that were written the same way.
///
/// # Examples
/// ```
/// use railbus::app::{AppSpec, EndpointSpec};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("app.toml");
/// std::fs::write(&path, r#"
///     bus.url = "sqlite:app.db"
///     on = [{ type = "order.*", group = "to-crm", url = "https://crm.example.org/hooks" }]
/// "#).unwrap();
/// let spec = AppSpec::load(&path, std::iter::empty()).unwrap();
/// let post: &EndpointSpec = spec.subscriptions[0].post.as_ref().unwrap();
/// assert_eq!(format!("{:?}", post.endpoint), "Endpoint(https://crm.example.org/hooks)");
/// ```
#[cfg(feature = "webhook")]
#[derive(Clone)]
pub struct EndpointSpec {
    /// The handler that posts.
    pub endpoint: Endpoint,
    /// What the file says of it.
    pub(super) said: Vec<String>,
}

#[cfg(feature = "webhook")]
impl PartialEq for EndpointSpec {
    fn eq(&self, other: &Self) -> bool {
        self.said == other.said
    }
}

#[cfg(feature = "webhook")]
impl std::fmt::Debug for EndpointSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.endpoint, f)
    }
}

/// A step: what it does, with which values, and how often.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    /// The step's name.
    pub name: String,
    /// What does its work.
    pub work: WorkSpec,
    /// The values it gets, as one object by name; `None`: what is piped to it, else the event's
    /// payload.
    pub input: Option<Vec<String>>,
    /// The name its value is stored under (default: its own).
    pub output: String,
    /// How often an exception is tried again; `None`: the step runs once.
    pub retry: Option<Retry>,
    /// The longest a try may take (default 5 minutes, 30 seconds for a request).
    pub timeout: Duration,
    /// The list whose items it runs for, one by one; `None`: it runs once.
    pub each: Option<EachSpec>,
    /// Whether its success, its failure, its exception end the run; `None`: as the pipeline says.
    pub stops: [Option<bool>; 3],
}

/// What a step runs for, item by item.
#[derive(Clone, Debug, PartialEq)]
pub struct EachSpec {
    /// The name of the list.
    pub items: String,
    /// How many items are worked on at once (default: the available parallelism).
    pub at_once: Option<usize>,
    /// When the whole succeeds (default: no item fails).
    pub evaluation: Evaluation,
}

/// A pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineSpec {
    /// The pipeline's name.
    pub name: String,
    /// The text of its flow.
    pub flow: String,
    /// The names of the steps, in the order they are written; each is a step of the app.
    pub steps: Vec<String>,
    /// The names of the values it is given: one is the event's payload, several are fields of it
    /// (default: whatever its steps need and no step before leaves).
    pub input: Vec<String>,
    /// Whether a step that does not succeed ends nothing (default: it ends the run).
    pub lenient: bool,
    /// The longest a run may take (default: as long as it likes).
    pub timeout: Option<Duration>,
    /// Whether its runs are kept, so that one whose process died goes on where it was (default: not).
    pub journal: bool,
}

/// Which events go to which pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionSpec {
    /// The name, unique in its group (default: the pipeline's).
    pub name: String,
    /// The pattern over types.
    pub event_type: Option<String>,
    /// The pattern over topics.
    pub topic: Option<String>,
    /// Paths in the payload, and the values that must be there.
    pub payload: Vec<(String, Value)>,
    /// The group; `None` is a broadcast: live, at most once.
    pub group: Option<String>,
    /// The name of the pipeline, which is one of the app; empty for what is posted.
    pub pipeline: String,
    /// Where its events are posted to.
    #[cfg(feature = "webhook")]
    pub post: Option<EndpointSpec>,
    /// How many events it works on at once (default: the available parallelism).
    pub limit: usize,
    /// How often a run that ended in an exception is tried again; `None`: see
    /// [`SubscriptionSpec::policy`].
    pub retry: Option<Retry>,
    /// What follows the last try (default: a dead letter in a group, dropped in a broadcast).
    pub then: Then,
    /// How long an event is held without a sign of life (default 30 s, at least 1 s).
    pub lease: Duration,
    /// What runs around the pipeline (default: nothing).
    pub layers: LayersSpec,
}

impl SubscriptionSpec {
    /// Returns which events it wants: type, topic and payload must all match. What the bus itself
    /// tells of failures only one that names that type wants: a catch-all is for the app's events.
    #[must_use]
    pub fn predicate(&self) -> Predicate {
        let wanted = self.event_type.as_deref();
        let named = wanted.is_some_and(|wanted| OWN.contains(&wanted));
        let own = || OWN.into_iter().map(predicate::event_type).reduce(|a, b| a | b);
        let others = (self.group.is_none() && !named).then(own).flatten().map(|own| !own);
        let parts = [
            wanted.map(predicate::event_type),
            self.topic.as_deref().map(predicate::topic),
            others,
        ];
        let values = self.payload.iter().map(|(path, v)| predicate::key_equals(path, v.clone()));
        let all = parts.into_iter().flatten().chain(values);
        all.reduce(|a, b| a & b).unwrap_or_else(predicate::any)
    }

    /// Returns what follows a failed run: five tries in a group and one outside unless `retry`
    /// says otherwise, then `then`.
    #[must_use]
    pub fn policy(&self) -> FailurePolicy {
        let default = match self.group {
            Some(_) => FailurePolicy::for_group(),
            None => FailurePolicy::for_broadcast(),
        };
        let retry = self.retry.clone().unwrap_or_else(|| default.retry.clone());
        FailurePolicy { retry, then: self.then, ..default }
    }
}
