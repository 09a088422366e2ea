//! Telling a bus what happens in a run.

use crate::{
    bus::{Bus, Hearing, WeakBus},
    event::{Event, OwnType, Type},
    step::{Input, Need, StepError, Store},
};
use serde::Serialize;
use serde_json::{Map, Value};
use smol_str::SmolStr;
use std::{sync::Arc, time::Duration};

/// Tells a bus of runs; builds nothing for what nobody subscribed to.
#[derive(Debug)]
pub(super) struct Observer {
    // Weak: a pipeline may be a handler on the very bus that it tells.
    bus: WeakBus,
    hearing: Hearing,
    pipeline: Arc<str>,
    source: SmolStr,
    // `pipeline.step` and its place among the steps, one for each of the plan; a group without a name
    // of its own is no step, and never told of.
    sources: Vec<(SmolStr, usize)>,
    types: [OwnType; Tale::TYPES.len()],
    values: bool,
}

/// What is told of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tale {
    Start,
    End,
    Error,
    StepStart,
    StepEnd,
    StepError,
    StepRetry,
    StepSkipped,
}

/// What a step came to, as an observer tells it.
pub(super) struct Told<'a> {
    pub(super) index: usize,
    pub(super) attempt: u32,
    pub(super) duration: Duration,
    pub(super) status: &'static str,
    pub(super) error: Option<&'a StepError>,
    // Where it jumped to, and why.
    pub(super) goto: Option<(&'a str, &'a str)>,
    pub(super) branch: Option<&'a str>,
    // How many items succeeded, and how many did not.
    pub(super) items: Option<(u64, u64)>,
}

/// A run that is observed: who tells of it, and the bus that is told, kept for as long.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    observer: &'a Observer,
    bus: &'a Bus,
}

impl Observer {
    pub(super) fn new<'a>(
        bus: &Bus,
        pipeline: &Arc<str>,
        steps: impl Iterator<Item = &'a str>,
        values: bool,
    ) -> Self {
        let mut next = 0;
        let source = |step: &str| {
            let place = next;
            next += usize::from(!step.starts_with('{'));
            (format!("{pipeline}.{step}").into(), place)
        };
        let sources = steps.map(source).collect();
        let (bus, pipeline) = (bus.downgrade(), Arc::clone(pipeline));
        let hearing = Hearing::new(&Tale::TYPES);
        let (types, source) = (Tale::TYPES.map(OwnType::new), SmolStr::from(&*pipeline));
        Self { bus, hearing, sources, types, pipeline, source, values }
    }

    /// Returns the bus, if it is still there.
    pub(super) fn bus(&self) -> Option<Bus> {
        self.bus.upgrade()
    }

    /// Tells `bus`, its own, of one run.
    pub(super) fn watch<'a>(&'a self, bus: &'a Bus) -> Watch<'a> {
        Watch { observer: self, bus }
    }
}

impl Watch<'_> {
    /// Tells whether someone listens; what is not heard need not be told.
    #[inline]
    pub(super) fn is_heard(&self, tale: Tale) -> bool {
        self.observer.hearing.hears(self.bus, tale as usize)
    }

    async fn tell<P: Serialize + Send + Sync + 'static>(
        &self,
        tale: Tale,
        source: &SmolStr,
        payload: P,
    ) {
        let event = Event::own(&self.observer.types[tale as usize], source, payload);
        self.bus.tell(event).await;
    }

    pub(super) async fn started(&self) {
        let Observer { pipeline, source, .. } = self.observer;
        self.tell(Tale::Start, source, Began { pipeline: Arc::clone(pipeline) }).await;
    }

    /// Tells how a run ended; `error` is the step that did not succeed, if it was one, and how.
    pub(super) async fn ended(
        &self,
        status: &'static str,
        duration: Duration,
        error: Option<(Option<&str>, &StepError)>,
    ) {
        let tale = if error.is_some() { Tale::Error } else { Tale::End };
        let Observer { pipeline, source, .. } = self.observer;
        let payload = Ended {
            pipeline: Arc::clone(pipeline),
            status,
            duration: duration.as_secs_f64(),
            step: error.and_then(|(step, _)| step.map(str::to_owned)),
            error_kind: error.map(|(_, error)| error.kind().to_owned()),
            error: error.map(|(_, error)| error.line()),
        };
        self.tell(tale, source, payload).await;
    }

    pub(super) async fn step_started(&self, index: usize, input: &Input<'_>, needs: &[Need]) {
        let (source, place) = &self.observer.sources[index];
        let inputs = needs.iter().filter_map(|need| {
            let value = input.value(&need.name)?.value().cloned()?;
            Some((need.name.clone(), value))
        });
        let inputs = self.observer.values.then(|| inputs.collect());
        let payload = StepBegan { index: *place, attempt: input.step_try(), inputs };
        self.tell(Tale::StepStart, source, payload).await;
    }

    /// Tells what became of a step that ran; `output` is the name its value is stored under.
    pub(super) async fn step_ended(&self, told: Told<'_>, store: &Store, output: &str) {
        let (source, place) = &self.observer.sources[told.index];
        let mut payload = told.payload(*place);
        if self.observer.values && told.error.is_none() {
            let value = store.value(output).and_then(|value| value.value()).cloned();
            let outputs = value.map(|value| (output.to_owned(), value)).into_iter().collect();
            payload.outputs = Some(outputs);
        }
        let tale = if told.error.is_some() { Tale::StepError } else { Tale::StepEnd };
        self.tell(tale, source, payload).await;
    }

    pub(super) async fn step_retried(&self, told: Told<'_>, wait: Duration) {
        let (source, place) = &self.observer.sources[told.index];
        let again_in = Some(wait.as_secs_f64());
        let payload = StepEnded { again_in, ..told.payload(*place) };
        self.tell(Tale::StepRetry, source, payload).await;
    }

    pub(super) async fn step_skipped(&self, index: usize, reason: &'static str) {
        let (source, place) = &self.observer.sources[index];
        let payload = StepSkipped { index: *place, reason };
        self.tell(Tale::StepSkipped, source, payload).await;
    }
}

impl Tale {
    const TYPES: [&str; 8] = [
        Type::PIPELINE_START,
        Type::PIPELINE_END,
        Type::PIPELINE_ERROR,
        Type::STEP_START,
        Type::STEP_END,
        Type::STEP_ERROR,
        Type::STEP_RETRY,
        Type::STEP_SKIPPED,
    ];
}

impl Told<'_> {
    fn payload(&self, index: usize) -> StepEnded {
        StepEnded {
            index,
            attempt: self.attempt,
            duration: self.duration.as_secs_f64(),
            status: self.status,
            goto: self.goto.map(|(to, _)| to.to_owned()),
            reason: self.goto.map(|(_, reason)| reason.to_owned()),
            branch: self.branch.map(str::to_owned),
            items: self.items.map(|(succeeded, failed)| ItemsEnded { succeeded, failed }),
            error: self.error.map(StepError::line),
            error_kind: self.error.map(|error| error.kind().to_owned()),
            outputs: None,
            again_in: None,
        }
    }
}

// The payloads, as `docs/lifecycle-events.md` has them. Kept as they are, and encoded only for whoever
// looks inside.

#[derive(Serialize)]
struct Began {
    pipeline: Arc<str>,
}

#[derive(Serialize)]
struct Ended {
    pipeline: Arc<str>,
    status: &'static str,
    duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct StepBegan {
    index: usize,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<Map<String, Value>>,
}

#[derive(Serialize)]
struct StepEnded {
    index: usize,
    attempt: u32,
    duration: f64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goto: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<ItemsEnded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    again_in: Option<f64>,
}

#[derive(Serialize)]
struct ItemsEnded {
    succeeded: u64,
    failed: u64,
}

#[derive(Serialize)]
struct StepSkipped {
    index: usize,
    reason: &'static str,
}
