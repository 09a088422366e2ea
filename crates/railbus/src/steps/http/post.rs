//! The step: a request, made of what it is given, and sent.

use super::{answered::Answered, client::Client, reach::Reach, statuses::Statuses, url};
use crate::{
    context::{self, Trace},
    error::{Error, ErrorKind, Result},
    step::{Exception, Input, Signature, Step, StepError, StepResult},
    steps::document::Document,
    task,
};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Uri,
    header::{self, HeaderName, HeaderValue},
};
use std::{fmt, time::Duration};

/// How long a request may take if nothing else is said, until the last byte of its answer.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes an answer may have if nothing else is said.
pub const OUTPUT_MAX: usize = 8 * 1024 * 1024;

/// Headers that the request itself makes.
const OWN: [&str; 5] = ["content-length", "transfer-encoding", "connection", "host", "trailer"];

/// A step that posts one JSON document and takes the answer as what it came to.
///
/// The body is the values of [`HttpStep::input`] as an object; without it what was piped to the
/// step, else the event's payload, as it is. Beside it go the headers `Railbus-Event-Id`,
/// `Railbus-Event-Type`, `Railbus-Topic`, `Railbus-Correlation-Id`, `Railbus-Attempt` and
/// `Railbus-Try`, and `traceparent`, `tracestate` and `baggage` where the event has valid ones. What is not
/// printable ASCII in them, a space, `"` and `%` are percent-encoded.
///
/// | status | body | comes to |
/// |---|---|---|
/// | 2xx | nothing but whitespace | success without a value |
/// | 2xx | `{"failure": TEXT}` or `{"failure": {"message": TEXT, "value": ..}}` | that failure |
/// | 2xx | `{"exception": {"kind": TEXT, "message": TEXT}}` | that exception |
/// | 2xx | any other JSON document | success with that value |
/// | 2xx | anything else, also a plain text, or too much | exception `output` |
/// | 4xx | `{"failure": ..}` as above | that failure |
/// | 4xx | anything else | a failure: the status, and `message`, `error` or `detail` of a JSON body, else its head; its value has `status` and `body` |
/// | 408, 425, 429, and all others | `{"exception": ..}` as above | that exception |
/// | | anything else | exception `http` |
/// | no answer: no connection, no such host, no TLS | | exception `connection` |
/// | no whole answer within the timeout | | exception `timeout` |
///
/// [`Statuses`] says otherwise. A body is JSON if it reads as JSON, whatever its type is said to
/// be. Redirects are not followed, `Retry-After` is told but not obeyed, and proxies of the
/// environment are not used. Connections are kept open and shared by all steps. Servers are trusted
/// by the system's certificates (or those of `SSL_CERT_FILE`).
///
/// A request that got no answer may have been worked on: whoever answers must know an event again
/// by `Railbus-Event-Id`.
///
/// # Examples
/// ```
/// use railbus::{Retry, StepDef, steps::http::{HttpStep, OUTPUT_MAX, Statuses, TIMEOUT}};
/// use std::time::Duration;
///
/// let charge = HttpStep::post("https://pay.example.org/charges")?
///     .input(["order"])
///     .header("authorization", "Bearer 123")?
///     .statuses(Statuses::default().success([409])?)
///     .timeout(Duration::from_secs(5))
///     .output_max(1024);
/// assert!(!format!("{charge:?}").contains("123"));
/// assert!(Duration::from_secs(5) < TIMEOUT && 1024 < OUTPUT_MAX);
/// let retry = Retry::attempts(3).on_kind("http").on_kind("connection").on_kind("timeout");
/// let step = StepDef::of(charge).named("charge").retry(retry);
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct HttpStep {
    url: Uri,
    headers: HeaderMap,
    document: Document,
    statuses: Statuses,
    timeout: Duration,
    output_max: usize,
}

impl HttpStep {
    /// Creates a step that posts to `url`, of scheme `http` or `https`.
    ///
    /// # Errors
    /// Returns a config error if it is no such URL, or has something in it that would not be sent,
    /// or not safely: a user or a password, a `#`, what is not ASCII.
    pub fn post(url: impl AsRef<str>) -> Result<Self> {
        let url = url::read(url.as_ref())?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let agent = concat!("railbus/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        Ok(Self {
            url,
            headers,
            document: Document::default(),
            statuses: Statuses::default(),
            timeout: TIMEOUT,
            output_max: OUTPUT_MAX,
        })
    }

    /// Sends a header, in place of a default one of that name. Its value is never shown.
    ///
    /// # Errors
    /// Returns a config error if name or value can't be a header, or if the request itself makes
    /// that header: `Host`, `Content-Length` and the like, and `Railbus-…`.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<Self> {
        let shown = name.as_ref().escape_debug();
        let refuse =
            |why: String, hint: &str| Err(Error::new(ErrorKind::Config, "http", why).hint(hint));
        let Ok(name) = HeaderName::try_from(name.as_ref()) else {
            return refuse(format!("`{shown}` is not a header's name"), "use letters, digits, `-`");
        };
        if OWN.contains(&name.as_str()) || name.as_str().starts_with("railbus-") {
            return refuse(
                format!("the request itself makes the header `{shown}`"),
                "leave it out",
            );
        }
        let Ok(mut value) = HeaderValue::from_str(value.as_ref()) else {
            let hint = "it may have no line breaks and no control characters";
            return refuse(format!("the value of the header `{shown}` can't be sent"), hint);
        };
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Sends the values of these names, as one JSON object by name (default: what was piped to it,
    /// as a value named `input`; else the event's payload). Each is a need of the step.
    #[must_use]
    pub fn input(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.document = Document::of(names);
        self
    }

    /// Sets what statuses mean (default: as [`Statuses`] says).
    #[must_use]
    pub fn statuses(mut self, statuses: Statuses) -> Self {
        self.statuses = statuses;
        self
    }

    /// Sets how long a request may take, until the last byte of its answer (default: [`TIMEOUT`]).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many bytes an answer may have (default: [`OUTPUT_MAX`]).
    #[must_use]
    pub fn output_max(mut self, bytes: usize) -> Self {
        self.output_max = bytes;
        self
    }

    /// Returns the URL without what may be a secret in it.
    fn shown(&self) -> String {
        let query = if self.url.query().is_some() { "?…" } else { "" };
        format!("{}{query}", url::shown(&self.url.to_string()))
    }

    fn request(&self, document: Bytes, input: &Input<'_>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(document));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        let mut tell = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(&encoded(value)) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        if let Some(event) = input.event() {
            tell("railbus-event-id", event.id());
            tell("railbus-event-type", event.event_type());
            tell("railbus-topic", event.topic());
            tell("railbus-correlation-id", event.correlation_id());
        }
        tell("railbus-attempt", &input.attempt().to_string());
        tell("railbus-try", &input.step_try().to_string());
        let trace = match input.event() {
            Some(event) => Trace::of(event.metadata()),
            None => context::current().map(|context| context.trace()).unwrap_or_default(),
        };
        for (name, value) in trace.metadata() {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        request
    }

    async fn send(&self, client: &Client, request: Request<Full<Bytes>>) -> StepResult {
        let who = format!("POST {}", self.shown());
        let answer = client.send(request).await.map_err(|why| {
            let why = format!("{who} got no answer: {why}");
            StepError::Exception(Exception::new("connection", why))
        })?;
        let (head, body) = answer.into_parts();
        let meaning = self.statuses.meaning(head.status.as_u16());
        let answered = Answered::read(head, body, meaning, self.output_max).await;
        answered.outcome(&who, self.output_max)
    }
}

#[async_trait]
impl Step for HttpStep {
    fn signature(&self) -> Signature {
        self.document.sign(Signature::new("post"))
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        let document = self.document.text(&input)?;
        let refused = |e| StepError::Exception(Exception::new("unsupported", e));
        let client = Client::of(&task::runtime("http").map_err(refused)?, Reach::All);
        let late = task::sleep("http", self.timeout).map_err(refused)?;
        tokio::select! {
            came = self.send(&client, self.request(document, &input)) => came,
            () = late => {
                let why = format!("POST {} took longer than {:?}", self.shown(), self.timeout);
                Err(StepError::Exception(Exception::new("timeout", why)))
            }
        }
    }
}

impl fmt::Debug for HttpStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("HttpStep")
            .field("url", &self.shown())
            .field("headers", &headers)
            .field("statuses", &self.statuses)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Encodes a text as CloudEvents does in headers: what is not printable ASCII, and ` "%`.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' => encoded.push_str(&format!("%{byte:02X}")),
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
