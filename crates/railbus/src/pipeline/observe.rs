//! Telling a bus what happens in a run.

use crate::{
    bus::{Bus, WeakBus},
    event::{Event, Type},
    step::{Input, Need, StepError, Store},
};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

/// Tells a bus of runs; builds nothing for what nobody subscribed to.
#[derive(Clone, Debug)]
pub(super) struct Observer {
    // Weak: a pipeline may be a handler on the very bus that it tells.
    bus: WeakBus,
    pipeline: Arc<str>,
    // `pipeline.step` and its place among the steps, one for each of the plan; a group without a name
    // of its own is no step, and never told of.
    sources: Vec<(Arc<str>, usize)>,
    values: bool,
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
        Self { bus, sources, pipeline, values }
    }

    async fn tell(
        &self,
        event_type: &'static str,
        source: &Arc<str>,
        payload: impl FnOnce() -> Value,
    ) {
        if let Some(bus) = self.bus.upgrade().filter(|bus| bus.hears(event_type)) {
            bus.tell(Event::new(event_type).source(source).payload(payload())).await;
        }
    }

    pub(super) async fn started(&self) {
        self.tell(Type::PIPELINE_START, &self.pipeline, || json!({ "pipeline": &*self.pipeline }))
            .await;
    }

    /// Tells how a run ended; `error` is the step that did not succeed, if it was one, and how.
    pub(super) async fn ended(
        &self,
        status: &'static str,
        duration: Duration,
        error: Option<(Option<&str>, &StepError)>,
    ) {
        let event_type = match error {
            Some(_) => Type::PIPELINE_ERROR,
            None => Type::PIPELINE_END,
        };
        let payload = || {
            let mut map = Map::new();
            map.insert("pipeline".into(), (*self.pipeline).into());
            map.insert("status".into(), status.into());
            map.insert("duration".into(), duration.as_secs_f64().into());
            if let Some((step, error)) = error {
                if let Some(step) = step {
                    map.insert("step".into(), step.into());
                }
                map.insert("error_kind".into(), error.kind().into());
                map.insert("error".into(), error.line().into());
            }
            Value::Object(map)
        };
        self.tell(event_type, &self.pipeline, payload).await;
    }

    pub(super) async fn step_started(&self, index: usize, input: &Input<'_>, needs: &[Need]) {
        let (source, place) = &self.sources[index];
        let place = *place;
        let payload = || {
            let mut map = Map::new();
            map.insert("index".into(), place.into());
            map.insert("attempt".into(), input.step_try().into());
            if self.values {
                let inputs = needs.iter().filter_map(|need| {
                    let value = input.value(&need.name)?.value().cloned()?;
                    Some((need.name.clone(), value))
                });
                map.insert("inputs".into(), Value::Object(inputs.collect()));
            }
            Value::Object(map)
        };
        self.tell(Type::STEP_START, source, payload).await;
    }

    /// Tells what became of a step that ran; `output` is the name its value is stored under.
    pub(super) async fn step_ended(&self, told: Told<'_>, store: &Store, output: &str) {
        let event_type = match told.error {
            Some(_) => Type::STEP_ERROR,
            None => Type::STEP_END,
        };
        let (source, place) = &self.sources[told.index];
        let payload = || {
            let mut map = told.map(*place);
            if self.values && told.error.is_none() {
                let value = store.value(output).and_then(|value| value.value()).cloned();
                let outputs = value.map(|value| (output.to_owned(), value)).into_iter().collect();
                map.insert("outputs".into(), Value::Object(outputs));
            }
            Value::Object(map)
        };
        self.tell(event_type, source, payload).await;
    }

    pub(super) async fn step_retried(&self, told: Told<'_>, wait: Duration) {
        let (source, place) = &self.sources[told.index];
        let payload = || {
            let mut map = told.map(*place);
            map.insert("again_in".into(), wait.as_secs_f64().into());
            Value::Object(map)
        };
        self.tell(Type::STEP_RETRY, source, payload).await;
    }

    pub(super) async fn step_skipped(&self, index: usize, reason: &'static str) {
        let (source, place) = &self.sources[index];
        let payload = || json!({ "index": place, "reason": reason });
        self.tell(Type::STEP_SKIPPED, source, payload).await;
    }
}

impl Told<'_> {
    fn map(&self, place: usize) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("index".into(), place.into());
        map.insert("attempt".into(), self.attempt.into());
        map.insert("duration".into(), self.duration.as_secs_f64().into());
        map.insert("status".into(), self.status.into());
        if let Some((to, reason)) = self.goto {
            map.insert("goto".into(), to.into());
            map.insert("reason".into(), reason.into());
        }
        if let Some(branch) = self.branch {
            map.insert("branch".into(), branch.into());
        }
        if let Some((succeeded, failed)) = self.items {
            map.insert("items".into(), json!({ "succeeded": succeeded, "failed": failed }));
        }
        if let Some(error) = self.error {
            map.insert("error".into(), error.line().into());
            map.insert("error_kind".into(), error.kind().into());
        }
        map
    }
}
