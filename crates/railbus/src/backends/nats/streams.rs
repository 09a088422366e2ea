//! What lies on the server: three streams, and the subjects in each.

use super::{
    api::{Api, StreamInfo},
    settings::{Limits, Settings},
    subject,
};
use crate::{
    clock::Timestamp,
    codec::Format,
    error::{Error, ErrorKind, Result},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// For how long what is known of the server's clock is good enough.
const CLOCK_GOOD: Duration = Duration::from_secs(60);

/// The streams of one bus.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) api: Api,
    /// What subjects begin with, and the stream of events.
    pub(super) prefix: String,
    pub(super) events: String,
    /// The stream of what is known of groups, and of events that come again.
    pub(super) desk: String,
    /// The stream of dead letters.
    pub(super) dead: String,
    pub(super) format: Format,
    pub(super) limits: Limits,
    clock: Arc<Mutex<Option<Clock>>>,
}

/// What the server's clock said, at the latest, and when.
#[derive(Clone, Copy, Debug)]
struct Clock {
    said: Timestamp,
    at: Instant,
}

impl Streams {
    pub(super) fn new(api: Api, settings: &Settings) -> Self {
        let name = &settings.stream;
        Self {
            api,
            prefix: settings.prefix.clone(),
            events: name.clone(),
            desk: format!("{name}_desk"),
            dead: format!("{name}_dead"),
            format: settings.format,
            limits: settings.limits.clone(),
            clock: Arc::default(),
        }
    }

    /// Returns the subject of a topic.
    pub(super) fn of_topic(&self, topic: &str) -> String {
        format!("{}.{}", self.prefix, subject::of_topic(topic))
    }

    /// Returns the topic of a subject.
    pub(super) fn to_topic(&self, subject: &str) -> String {
        let rest = subject.strip_prefix(&*self.prefix).and_then(|rest| rest.strip_prefix('.'));
        subject::to_topic(rest.unwrap_or(subject))
    }

    /// Returns the subjects of all events.
    pub(super) fn all(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// Returns the subject under which a group is known.
    pub(super) fn of_group(&self, consumer: &str) -> String {
        format!("{}_desk.group.{consumer}", self.prefix)
    }

    /// Returns the subject under which it is kept what became of an event in a group.
    pub(super) fn of_held(&self, consumer: &str, seq: u64) -> String {
        format!("{}_desk.held.{consumer}.{seq}", self.prefix)
    }

    /// Returns the subject of a dead letter.
    pub(super) fn of_letter(&self, consumer: &str, subscription: &str, place: &str) -> String {
        let subscription = subject::token(subscription);
        let subscription = if subscription.is_empty() { "-".into() } else { subscription };
        format!("{}_dead.{consumer}.{subscription}.{}", self.prefix, subject::token(place))
    }

    /// Makes what is not there yet, and gives what is there the limits that are set.
    ///
    /// # Errors
    /// Returns a config error if a stream of that name is another's, else what the server says.
    pub(super) async fn prepare(&self) -> Result<StreamInfo> {
        let aside = |name: &str, subjects: &str| {
            let mut config = self.config(name, subjects);
            // The newest of each subject is what counts.
            config["max_msgs_per_subject"] = json!(1);
            config
        };
        let mut config = self.config(&self.events, &self.all());
        let limits = &self.limits;
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        if let Some(window) = limits.window {
            config["duplicate_window"] = json!(nanos(window));
        }
        if let Some(bytes) = limits.max_bytes {
            config["max_bytes"] = json!(bytes);
        }
        if limits.hard {
            config["max_msgs"] = json!(limits.max_len.map_or(-1, u64::cast_signed));
            let age = limits.retention.map_or(0, nanos);
            config["max_age"] = json!(age);
            if age > 0 {
                let window = limits.window.map_or(0, nanos).clamp(1, age);
                config["duplicate_window"] = json!(window);
            }
        } else {
            config["discard"] = json!("new");
        }
        // First, since this is the one that may be somebody else's.
        let events = self.ensure(&self.events, config).await?;
        self.ensure(&self.desk, aside(&self.desk, &format!("{}_desk.>", self.prefix))).await?;
        self.ensure(&self.dead, aside(&self.dead, &format!("{}_dead.>", self.prefix))).await?;
        Ok(events)
    }

    fn config(&self, name: &str, subjects: &str) -> Value {
        json!({
            "name": name,
            "subjects": [subjects],
            "retention": "limits",
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
            "max_msgs_per_subject": -1,
            "max_msg_size": -1,
            "discard": "old",
            "storage": self.limits.storage,
            "num_replicas": self.limits.replicas,
        })
    }

    async fn ensure(&self, name: &str, wanted: Value) -> Result<StreamInfo> {
        const OPERATION: &str = "open nats";
        let Some(found) = self.api.stream(OPERATION, name).await? else {
            return self.api.create_stream(OPERATION, name, &wanted).await;
        };
        let subjects = found.config["subjects"].as_array().cloned().unwrap_or_default();
        if !subjects.contains(&wanted["subjects"][0]) {
            let why = "a stream of that name is there, for other subjects";
            return Err(Error::new(ErrorKind::Config, OPERATION, why)
                .with("stream", name)
                .with("subjects", Value::Array(subjects))
                .hint(
                    "set `stream` to another name, or `prefix` to what its subjects begin with",
                ));
        }
        let mut config = found.config.clone();
        // How it is kept stays as it was made.
        for key in ["max_msgs", "max_bytes", "max_age", "discard", "duplicate_window"] {
            if let Some(value) = wanted.get(key) {
                config[key] = value.clone();
            }
        }
        match config == found.config {
            true => Ok(found),
            false => self.api.update_stream(OPERATION, name, &config).await,
        }
    }

    /// Returns what time it is on the server, or a little earlier.
    ///
    /// # Errors
    /// Returns what the server says.
    pub(super) async fn now(&self) -> Result<Timestamp> {
        let known = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clock) = known.filter(|clock| clock.at.elapsed() < CLOCK_GOOD) {
            return Ok(clock.said.after(clock.at.elapsed()));
        }
        // Messages are stamped as they are kept: no older server tells the time otherwise.
        let subject = format!("{}_desk.clock", self.prefix);
        let kept = self.api.put("look at the clock", &subject, None, bytes::Bytes::new()).await?;
        let mut at = Instant::now();
        let Some(Ok(kept)) = kept else {
            return Err(Error::new(ErrorKind::Unavailable, "look at the clock", "nothing is kept"));
        };
        let which = json!({ "seq": kept.seq });
        let stored = match self.api.get("look at the clock", &self.desk, &which).await? {
            Some(stored) => Some(stored),
            // Another one has looked meanwhile.
            None => {
                let which = json!({ "last_by_subj": subject });
                let stored = self.api.get("look at the clock", &self.desk, &which).await?;
                at = Instant::now();
                stored
            }
        };
        let said = stored.map(|stored| stored.at).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "look at the clock", "nothing is kept")
        })?;
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(Clock { said, at });
        Ok(said.after(at.elapsed()))
    }
}
