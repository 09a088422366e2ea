//! What an answer comes to.

use super::{statuses::Meaning, url};
use crate::{
    error::chain,
    step::{Exception, Failure, StepError, StepResult},
    steps::answer,
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{HeaderMap, StatusCode, body::Incoming, header};
use serde_json::{Value, json};

/// How much is read of a body that is no value.
const TOLD_MAX: usize = 64 * 1024;

/// How many characters of a body are shown.
const SHOWN_MAX: usize = 200;

/// An answer, its body read as far as it is of use.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) meaning: Meaning,
    headers: HeaderMap,
    body: Body,
}

struct Body {
    read: Vec<u8>,
    end: End,
}

enum End {
    Whole,
    /// It goes on beyond the limit.
    TooMuch,
    Broken(String),
}

impl Answered {
    /// Reads an answer: of a success at most `max` bytes.
    pub(super) async fn read(
        head: hyper::http::response::Parts,
        body: Incoming,
        meaning: Meaning,
        max: usize,
    ) -> Self {
        let max = if meaning == Meaning::Success { max } else { TOLD_MAX };
        let body = read(body, max).await;
        Self { status: head.status, meaning, headers: head.headers, body }
    }

    /// Tells what it comes to; `who` asked.
    pub(super) fn outcome(self, who: &str, max: usize) -> StepResult {
        match self.meaning {
            Meaning::Success => self.success(who, max),
            Meaning::Failure => Err(StepError::Failure(self.failure())),
            Meaning::Retry => Err(StepError::Exception(self.exception(who))),
        }
    }

    fn success(self, who: &str, max: usize) -> StepResult {
        let status = self.status;
        let wrong = |kind: &str, what: &str| {
            let why = format!("{who} answered {status} with {what}");
            Err(StepError::Exception(Exception::new(kind, why)))
        };
        match self.body.end {
            End::Whole => match answer::read(&self.body.read) {
                Ok(said) => said,
                Err(why) => wrong("output", &why),
            },
            End::TooMuch => wrong("output", &format!("more than {max} bytes")),
            End::Broken(why) => wrong("connection", &format!("a body that broke off: {why}")),
        }
    }

    fn failure(&self) -> Failure {
        let value = serde_json::from_slice::<Value>(&self.body.read).ok();
        let said = sole(value.as_ref(), "failure").and_then(|said| answer::failure(said).ok());
        said.unwrap_or_else(|| {
            let message = match self.told(value.as_ref()) {
                told if told.is_empty() => self.status.to_string(),
                told => format!("{}: {told}", self.status),
            };
            let text = || Value::from(String::from_utf8_lossy(&self.body.read));
            let body = value.unwrap_or_else(text);
            Failure::new(message).value(json!({"status": self.status.as_u16(), "body": body}))
        })
    }

    fn exception(&self, who: &str) -> Exception {
        let value = serde_json::from_slice::<Value>(&self.body.read).ok();
        let said = sole(value.as_ref(), "exception").and_then(|said| answer::exception(said).ok());
        said.unwrap_or_else(|| {
            let mut why = format!("{who} answered {}", self.status);
            let told = self.told(value.as_ref());
            if !told.is_empty() {
                why.push_str(&format!(": {told}"));
            }
            if self.status.is_redirection() {
                let to = self.header(&header::LOCATION).unwrap_or_else(|| "elsewhere".into());
                let to = url::shown(&to);
                why.push_str(&format!("; redirects to {to} are not followed, name that place"));
            }
            if let Some(wait) = self.header(&header::RETRY_AFTER) {
                why.push_str(&format!("; it asks to wait (Retry-After: {wait})"));
            }
            Exception::new("http", why)
        })
    }

    fn header(&self, name: &header::HeaderName) -> Option<String> {
        self.headers.get(name).map(|value| shown(&String::from_utf8_lossy(value.as_bytes())))
    }

    /// Returns the message in a body, else its head.
    fn told(&self, value: Option<&Value>) -> String {
        let message = value.and_then(|value| {
            let text = |key: &str| match value.get(key)? {
                Value::String(text) => Some(text.as_str()),
                inner => inner.get("message")?.as_str(),
            };
            ["message", "error", "detail"].into_iter().find_map(text)
        });
        match message {
            Some(message) if !message.trim().is_empty() => shown(message),
            _ => shown(&String::from_utf8_lossy(&self.body.read)),
        }
    }
}

/// Returns the value of a key that is an object's only one.
fn sole<'a>(value: Option<&'a Value>, key: &str) -> Option<&'a Value> {
    value?.as_object().filter(|map| map.len() == 1)?.get(key)
}

/// Returns the head of a text, in one line and harmless to a terminal.
fn shown(text: &str) -> String {
    let mut words = String::new();
    for word in text.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        if let Some((cut, _)) = words.char_indices().nth(SHOWN_MAX) {
            words.truncate(cut);
            words.push('…');
            break;
        }
    }
    words
}

async fn read(mut body: Incoming, max: usize) -> Body {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let data: Bytes = match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => data,
            // Trailers.
            Ok(Err(_)) => continue,
            Err(error) => return Body { read, end: End::Broken(chain(&error)) },
        };
        let room = max - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Body { read, end: End::TooMuch };
        }
    }
    Body { read, end: End::Whole }
}
