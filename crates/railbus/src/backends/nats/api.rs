//! What can be asked of JetStream: requests and answers in JSON.
//!
//! Source: the reference of JetStream's API, as servers from 2.9 on know it.

use super::{
    fault::Refusal,
    link::{Answer, Link},
    wire,
};
use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
};
use async_nats::HeaderMap;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::time::Duration;

/// JetStream behind a connection.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) link: Link,
    prefix: String,
}

/// A refusal, where one is in an answer's place.
#[derive(Deserialize)]
struct Refused {
    error: Option<Refusal>,
}

/// What is known of a stream.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: Value,
    pub(super) state: StreamState,
    /// When it was made.
    #[serde(default)]
    pub(super) created: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct StreamState {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
}

/// What is known of a consumer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ConsumerInfo {
    pub(super) name: String,
    pub(super) config: ConsumerConfig,
    pub(super) ack_floor: Place,
    pub(super) delivered: Place,
    pub(super) num_ack_pending: u64,
    pub(super) num_pending: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ConsumerConfig {
    #[serde(default)]
    ack_wait: u64,
}

impl ConsumerInfo {
    /// Returns how long the server waits for an acknowledgement.
    pub(super) fn ack_wait(&self) -> Duration {
        Duration::from_nanos(self.config.ack_wait)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Place {
    pub(super) stream_seq: u64,
    #[serde(default)]
    pub(super) last_active: Option<String>,
}

/// A message as it lies in a stream.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) seq: u64,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) at: Timestamp,
}

#[derive(Deserialize)]
struct Got {
    message: GotMessage,
}

#[derive(Deserialize)]
struct GotMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    time: String,
}

/// What a stream says of what it was given.
#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    pub(super) seq: u64,
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Listed<T> {
    #[serde(default = "Vec::new")]
    consumers: Vec<T>,
    #[serde(default)]
    total: usize,
}

#[derive(Deserialize)]
struct Purged {
    #[serde(default)]
    purged: u64,
}

impl Api {
    pub(super) fn new(link: Link, prefix: &str) -> Self {
        Self { link, prefix: prefix.into() }
    }

    /// Returns the subject of a request.
    pub(super) fn subject(&self, what: &str) -> String {
        format!("{}.{what}", self.prefix)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        what: &str,
        body: &Value,
    ) -> Result<Result<T, Refusal>> {
        let body = match body {
            Value::Null => Bytes::new(),
            body => Bytes::from(body.to_string()),
        };
        match self.link.ask(operation, &self.subject(what), None, body).await? {
            Answer::Came(message) => read(operation, &message.payload),
            Answer::Nobody => Err(self.nobody(operation)),
        }
    }

    /// Returns the error that tells that JetStream does not answer.
    fn nobody(&self, operation: &'static str) -> Error {
        let (kind, why) = match self.link.client().server_info().jetstream {
            true => (ErrorKind::Unavailable, "JetStream does not answer"),
            false => (ErrorKind::Unsupported, "the server runs without JetStream"),
        };
        Error::new(kind, operation, why)
            .with("server", self.link.server())
            .hint("start the server with -js, or set `jetstream=false`: broadcasts alone need none")
    }

    async fn must<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        what: &str,
        body: &Value,
    ) -> Result<T> {
        self.call(operation, what, body).await?.map_err(|refusal| refusal.error(operation))
    }

    /// Calls for what may not be there: then it is none.
    async fn maybe<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        what: &str,
        body: &Value,
    ) -> Result<Option<T>> {
        match self.call(operation, what, body).await? {
            Ok(said) => Ok(Some(said)),
            Err(refusal) if refusal.code == 404 => Ok(None),
            Err(refusal) => Err(refusal.error(operation)),
        }
    }

    pub(super) async fn stream(
        &self,
        operation: &'static str,
        name: &str,
    ) -> Result<Option<StreamInfo>> {
        self.maybe(operation, &format!("STREAM.INFO.{name}"), &Value::Null).await
    }

    /// Returns what is known of a stream, with the subjects that are asked for.
    pub(super) async fn subjects(
        &self,
        operation: &'static str,
        name: &str,
        what: &Value,
    ) -> Result<Value> {
        let found = self.maybe(operation, &format!("STREAM.INFO.{name}"), what).await?;
        Ok(found.unwrap_or_default())
    }

    pub(super) async fn create_stream(
        &self,
        operation: &'static str,
        name: &str,
        config: &Value,
    ) -> Result<StreamInfo> {
        self.must(operation, &format!("STREAM.CREATE.{name}"), config).await
    }

    pub(super) async fn update_stream(
        &self,
        operation: &'static str,
        name: &str,
        config: &Value,
    ) -> Result<StreamInfo> {
        self.must(operation, &format!("STREAM.UPDATE.{name}"), config).await
    }

    /// Removes messages; tells how many there were.
    pub(super) async fn purge(
        &self,
        operation: &'static str,
        stream: &str,
        what: &Value,
    ) -> Result<u64> {
        let purged: Option<Purged> =
            self.maybe(operation, &format!("STREAM.PURGE.{stream}"), what).await?;
        Ok(purged.map_or(0, |purged| purged.purged))
    }

    /// Removes one message; tells whether it was there.
    pub(super) async fn delete(
        &self,
        operation: &'static str,
        stream: &str,
        seq: u64,
    ) -> Result<bool> {
        let body = json!({ "seq": seq, "no_erase": true });
        let said: Result<Value, Refusal> =
            self.call(operation, &format!("STREAM.MSG.DELETE.{stream}"), &body).await?;
        match said {
            Ok(_) => Ok(true),
            // Older servers have no code of their own for it.
            Err(refusal) if refusal.code == 404 || refusal.description.contains("not found") => {
                Ok(false)
            }
            Err(refusal) if refusal.err_code == 10_057 => Ok(false),
            Err(refusal) => Err(refusal.error(operation)),
        }
    }

    /// Reads one message: by `seq`, by `last_by_subj`, or the first from `seq` on by `next_by_subj`.
    pub(super) async fn get(
        &self,
        operation: &'static str,
        stream: &str,
        which: &Value,
    ) -> Result<Option<Stored>> {
        let what = format!("STREAM.MSG.GET.{stream}");
        let got: Option<Got> = self.maybe(operation, &what, which).await?;
        got.map(|got| got.message.read(operation)).transpose()
    }

    pub(super) async fn consumer(
        &self,
        operation: &'static str,
        stream: &str,
        name: &str,
    ) -> Result<Option<ConsumerInfo>> {
        let what = format!("CONSUMER.INFO.{stream}.{name}");
        self.maybe(operation, &what, &Value::Null).await
    }

    /// Makes a consumer, unless somebody else was quicker.
    pub(super) async fn create_consumer(
        &self,
        operation: &'static str,
        stream: &str,
        name: &str,
        config: &Value,
    ) -> Result<ConsumerInfo> {
        let what = format!("CONSUMER.DURABLE.CREATE.{stream}.{name}");
        let body = json!({ "stream_name": stream, "config": config });
        match self.call(operation, &what, &body).await? {
            Ok(info) => Ok(info),
            Err(refusal) => {
                let other = self.consumer(operation, stream, name).await?;
                other.ok_or_else(|| refusal.error(operation))
            }
        }
    }

    pub(super) async fn delete_consumer(
        &self,
        operation: &'static str,
        stream: &str,
        name: &str,
    ) -> Result<bool> {
        let what = format!("CONSUMER.DELETE.{stream}.{name}");
        let gone: Option<Value> = self.maybe(operation, &what, &Value::Null).await?;
        Ok(gone.is_some())
    }

    /// Returns all consumers of a stream.
    pub(super) async fn consumers(
        &self,
        operation: &'static str,
        stream: &str,
    ) -> Result<Vec<ConsumerInfo>> {
        let mut all: Vec<ConsumerInfo> = Vec::new();
        loop {
            let what = format!("CONSUMER.LIST.{stream}");
            let page = json!({ "offset": all.len() });
            let listed: Option<Listed<ConsumerInfo>> = self.maybe(operation, &what, &page).await?;
            let Some(listed) = listed else { return Ok(all) };
            let is_last = listed.consumers.is_empty();
            all.extend(listed.consumers);
            if is_last || all.len() >= listed.total {
                return Ok(all);
            }
        }
    }

    /// Gives a message to a stream, and waits until it is kept; `None` if no stream has the subject.
    pub(super) async fn put(
        &self,
        operation: &'static str,
        subject: &str,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Result<Option<Result<Kept, Refusal>>> {
        let Answer::Came(message) = self.link.ask(operation, subject, headers, body).await? else {
            return Ok(None);
        };
        // Read once: this is the answer to each event that is published.
        match serde_json::from_slice(&message.payload) {
            Ok(Ack { seq, error: None }) if seq > 0 => Ok(Some(Ok(Kept { seq }))),
            Ok(Ack { error: Some(refusal), .. }) => Ok(Some(Err(refusal))),
            _ => read(operation, &message.payload).map(Some),
        }
    }
}

fn read<T: DeserializeOwned>(operation: &'static str, body: &Bytes) -> Result<Result<T, Refusal>> {
    let odd = |why: serde_json::Error| {
        let said: String = String::from_utf8_lossy(body).chars().take(200).collect();
        Error::new(ErrorKind::Internal, operation, "JetStream's answer is not known")
            .with("said", said)
            .because(why)
    };
    let refused: Refused = serde_json::from_slice(body).map_err(odd)?;
    if let Some(refusal) = refused.error {
        return Ok(Err(refusal));
    }
    serde_json::from_slice(body).map(Ok).map_err(odd)
}

impl GotMessage {
    fn read(self, operation: &'static str) -> Result<Stored> {
        let odd = |e: Box<dyn std::error::Error + Send + Sync>| {
            let why = "a stored message can't be read";
            Error::new(ErrorKind::Corrupt, operation, why).because(e)
        };
        let plain = |text: &str| BASE64_STANDARD.decode(text).map_err(|e| odd(e.into()));
        Ok(Stored {
            headers: wire::headers(&plain(&self.hdrs)?),
            body: plain(&self.data)?.into(),
            at: self.time.parse()?,
            subject: self.subject,
            seq: self.seq,
        })
    }
}
