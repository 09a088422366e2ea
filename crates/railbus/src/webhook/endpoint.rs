//! The handler: posts a group's events to a URL.

use super::{
    breaker::{Breaker, Sign, Turn},
    rate::Rate,
    wait::retry_after,
    wire::Mode,
};
use crate::{
    backends::webhook::Signature,
    bus::Bus,
    clock::Timestamp,
    delivery::{Nack, Outcome},
    error::{BoxError, Error, ErrorKind, Result},
    event::Event,
    handler::{Call, Called, FromDelivery, Handler},
    steps::http::{
        client::Client,
        reach::Reach,
        url::{read, shown},
    },
    task,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long a request may take, unless something else is said.
const TIMEOUT: Duration = Duration::from_secs(15);

/// After how many failures in a row there is a pause, and how long the first one is.
const BREAKS_AFTER: u32 = 5;
const PAUSE: Duration = Duration::from_secs(10);

/// How much of an answer is read, so that its connection can be used again.
const ANSWER_MAX: usize = 64 * 1024;

/// A URL that events are posted to, as the handler of a subscription: leases, tries and dead letters are
/// those of its group.
///
/// | answer | |
/// |---|---|
/// | 2xx | it is done |
/// | 408, 409, 425, 429, 5xx, none in time, no connection | tried again, as the subscription's policy says; not before `Retry-After`, seconds or a date, up to an hour |
/// | 410 | a dead letter, and nothing is posted any more: what is left stays where it is |
/// | 3xx | a dead letter: redirects are not followed |
/// | other 4xx | a dead letter, at once |
///
/// While it is down (five failures in a row, unless something else is said), or asks to wait, nothing is
/// posted: events in hand wait with their leases kept and no try counted, no more are fetched than the
/// subscription's limit, and after 10 s, doubled up to 5 minutes, one is tried.
///
/// Addresses of this machine and of private networks are refused, whichever name they have, unless
/// [`Endpoint::allow_private`] says so; what counts is the address that is connected to. Proxies of the
/// environment are not used. Connections are kept open and shared. What is posted may arrive twice, as
/// everywhere: its id is the same.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Retry, webhook::{Endpoint, Mode, Signature}};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let crm = Endpoint::new("https://crm.example.org/hooks?token=hunter2")?
///     .sign(Signature::standard("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?)
///     .header("x-tenant", "north")?
///     .mode(Mode::Structured)
///     .timeout(Duration::from_secs(5))
///     .at_once(8)
///     .rate(100, Duration::from_secs(1))
///     .breaker(3, Duration::from_secs(30));
/// assert_eq!(format!("{crm:?}"), "Endpoint(https://crm.example.org/hooks?…)");
///
/// let bus = Bus::open("memory:").await?;
/// let retry = Retry::attempts(8).backoff(Duration::from_secs(2));
/// bus.on("order.*").group("to-crm").retry(retry).run(crm).await?;
///
/// let refused = Endpoint::new("http://127.0.0.1:9/")?.post(&Event::new("tick").payload(1)).await;
/// assert!(refused.unwrap_err().to_string().contains("private network"));
/// let own = Endpoint::new("http://127.0.0.1:9/")?.allow_private();
/// assert!(own.post(&Event::new("tick").payload(1)).await.unwrap_err().is_retryable());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Endpoint {
    url: Uri,
    reach: Reach,
    signature: Option<Signature>,
    headers: HeaderMap,
    mode: Mode,
    timeout: Duration,
    at_once: Option<Arc<Semaphore>>,
    rate: Option<Arc<Rate>>,
    breaker: Arc<Breaker>,
}

/// Why an event was not taken.
enum Refusal {
    /// It may be later.
    Yet { why: String, wait: Option<Duration> },
    /// It never will.
    Ever(String),
}

impl Endpoint {
    /// Posts to this URL, of scheme `https` or `http`.
    ///
    /// # Errors
    /// Returns a config error if it is no such URL, or has a user, a password or a `#` in it.
    pub fn new(url: impl AsRef<str>) -> Result<Self> {
        Ok(Self {
            url: read(url.as_ref())?,
            reach: Reach::Public,
            signature: None,
            headers: HeaderMap::new(),
            mode: Mode::default(),
            timeout: TIMEOUT,
            at_once: None,
            rate: None,
            breaker: Arc::new(Breaker::new(BREAKS_AFTER, PAUSE)),
        })
    }

    /// Signs what is posted.
    #[must_use]
    pub fn sign(mut self, signature: Signature) -> Self {
        self.signature = Some(signature);
        self
    }

    /// Sends a header; its value is never shown.
    ///
    /// # Errors
    /// Returns a config error if it can't be one, or if the request itself makes it.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<Self> {
        const OWN: [&str; 5] =
            ["host", "content-length", "transfer-encoding", "connection", "content-type"];
        let config = |why: String| Err(Error::new(ErrorKind::Config, "webhook", why));
        let told = name.as_ref().escape_debug();
        let Ok(name) = HeaderName::try_from(name.as_ref()) else {
            return config(format!("`{told}` is not a header's name"));
        };
        if OWN.contains(&name.as_str()) || name.as_str().starts_with("ce-") {
            return config(format!("the request itself makes the header `{told}`"));
        }
        let Ok(mut value) = HeaderValue::from_str(value.as_ref()) else {
            return config(format!("the value of the header `{told}` can't be sent"));
        };
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Sets how events are written (default: CloudEvents, binary).
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets how long a request may take, until the last byte of its answer (default 15 s).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many requests are under way at once (default: as many as the subscription's limit).
    #[must_use]
    pub fn at_once(mut self, most: usize) -> Self {
        self.at_once = Some(Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS))));
        self
    }

    /// Posts so many in a while at most, evenly, and as many at once after a rest.
    #[must_use]
    pub fn rate(mut self, count: u32, every: Duration) -> Self {
        self.rate = Some(Arc::new(Rate::new(count, every)));
        self
    }

    /// Sets after how many failures in a row nothing is posted for a while, and how long the first such
    /// pause is, each further one being twice as long, up to 5 minutes (default: 5, 10 s). 0 failures:
    /// there are no pauses.
    #[must_use]
    pub fn breaker(mut self, failures: u32, pause: Duration) -> Self {
        self.breaker = Arc::new(Breaker::new(failures, pause));
        self
    }

    /// Posts to addresses of this machine and of private networks as well.
    #[must_use]
    pub fn allow_private(mut self) -> Self {
        self.reach = Reach::All;
        self
    }

    /// Posts one event, once, now: whatever the breaker says, and without a try more.
    ///
    /// # Errors
    /// Returns an unavailable error if it may be taken later, an invalid-event one if not.
    pub async fn post(&self, event: &Event) -> Result<()> {
        match self.send(event).await.0 {
            Ok(()) => Ok(()),
            Err(Refusal::Yet { why, .. }) => {
                Err(Error::new(ErrorKind::Unavailable, "webhook", why))
            }
            Err(Refusal::Ever(why)) => Err(Error::new(ErrorKind::InvalidEvent, "webhook", why)),
        }
    }

    fn shown(&self) -> String {
        let query = if self.url.query().is_some() { "?…" } else { "" };
        format!("{}{query}", shown(&self.url.to_string()))
    }

    fn request(&self, event: &Event) -> Result<Request<Full<Bytes>>> {
        let (mut headers, body) = self.mode.write(event)?;
        let agent = concat!("railbus/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if let Some(signature) = &self.signature {
            let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
            let signed = signature.sign(id.unwrap_or(event.id()), &body);
            for (name, value) in signed {
                headers.insert(name, value);
            }
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Posts an event; tells what came of it, and what that says of the endpoint.
    async fn send(&self, event: &Event) -> (Result<(), Refusal>, Sign) {
        let who = || format!("POST {}", self.shown());
        let (request, client) = match (self.request(event), task::runtime("webhook")) {
            (Ok(request), Ok(runtime)) => (request, Client::of(&runtime, self.reach)),
            (Err(error), _) | (_, Err(error)) => {
                return (Err(Refusal::Ever(error.to_string())), Sign::There);
            }
        };
        let down = |why: String| (Err(Refusal::Yet { why, wait: None }), Sign::Down);
        let asking = async {
            let answer = client.send(request).await?;
            let (head, body) = answer.into_parts();
            read_away(body).await;
            Ok::<_, String>(head)
        };
        match timeout(self.timeout, asking).await {
            Ok(Ok(head)) => self.understand(head.status, &head.headers),
            Ok(Err(why)) => down(format!("{} got no answer: {why}", who())),
            Err(_) => down(format!("{} took longer than {:?}", who(), self.timeout)),
        }
    }

    fn understand(&self, status: StatusCode, headers: &HeaderMap) -> (Result<(), Refusal>, Sign) {
        if status.is_success() {
            return (Ok(()), Sign::There);
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let why = format!("POST {} answered {status}", self.shown());
        let wait = text(&header::RETRY_AFTER).and_then(|text| retry_after(text, Timestamp::now()));
        let sign = match (status.as_u16(), wait) {
            (429 | 503, Some(wait)) => Sign::Wait(wait),
            (500.., _) => Sign::Down,
            (410, _) => Sign::Gone,
            _ => Sign::There,
        };
        let refusal = match status.as_u16() {
            408 | 409 | 425 | 429 | 500.. => Refusal::Yet { why, wait },
            300..=399 => {
                let to = text(&header::LOCATION).map_or_else(|| "elsewhere".into(), shown);
                Refusal::Ever(format!("{why}: redirects are not followed, name {to} itself"))
            }
            _ => Refusal::Ever(why),
        };
        (Err(refusal), sign)
    }

    /// Waits for its turn; none if the bus closes meanwhile.
    async fn turn(&self, closing: Option<CancellationToken>) -> Option<Turn<'_>> {
        let turn = async {
            if let Some(rate) = &self.rate {
                rate.turn().await;
            }
            self.breaker.pass().await
        };
        match closing {
            None => Some(turn.await),
            Some(closing) => closing.run_until_cancelled(turn).await,
        }
    }

    async fn handle(&self, event: &Event, closing: Option<CancellationToken>) -> Outcome {
        // Closed by nobody.
        let _room = match &self.at_once {
            Some(room) => room.acquire().await.ok(),
            None => None,
        };
        let Some(turn) = self.turn(closing).await else {
            let reason = format!("not posted to {}: the bus was closed", self.shown());
            return Outcome::Nacked(Nack { delay: Duration::ZERO, reason });
        };
        let (taken, sign) = self.send(event).await;
        let url = self.shown();
        if sign == Sign::Gone {
            tracing::error!(url, "the endpoint is gone for good: nothing is posted any more");
        }
        if let Some(pause) = turn.came(sign) {
            tracing::warn!(url, ?pause, "the endpoint is down: nothing is posted for a while");
        }
        match taken {
            Ok(()) => Outcome::Done,
            Err(Refusal::Ever(why)) => Outcome::DeadLetter(why),
            Err(Refusal::Yet { why, wait: Some(delay) }) => {
                Outcome::Nacked(Nack { delay, reason: why })
            }
            Err(Refusal::Yet { why, wait: None }) => {
                Outcome::Failed(Box::new(Error::new(ErrorKind::Unavailable, "webhook", why)))
            }
        }
    }
}

/// Reads what is left of an answer, so that its connection can be used again; of one that goes on and
/// on, not much.
async fn read_away(body: Incoming) {
    drop(Limited::new(body, ANSWER_MAX).collect().await);
}

/// How an [`Endpoint`] is a handler.
#[derive(Debug)]
pub struct IsEndpoint;

impl Handler<IsEndpoint> for Endpoint {
    const ASYNC: bool = true;

    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        let bus: Result<Bus, BoxError> = Bus::from_delivery(&call);
        Called::Later(Box::pin(self.handle(call.event(), bus.ok().map(|bus| bus.closing()))))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.shown())
    }
}
