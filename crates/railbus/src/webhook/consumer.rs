//! The consumer: handlers for what is posted here.

use super::accepting::hand_on;
use crate::{
    backend::{Backend, Order, Start, Subscribe},
    backends::webhook::{SETTINGS, Webhook},
    bus::{Bus, Consumer, On},
    error::{Error, ErrorKind, Result},
    options::{IntoOptions, Options, Setting},
    predicate::{Interest, Predicate},
    task,
};
use axum::{Router, body::Body, extract::Request, routing::any};
use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::JoinHandle;

/// How long [`WebhookConsumer::stop`] waits.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How long what is handed on to a bus is this program's.
const LEASE: Duration = Duration::from_secs(60);

const MODE: Setting = Setting {
    key: "mode",
    help: "handle (default): answered when it was handled; accept: when `bus` has it",
};
const BUS: Setting = Setting {
    key: "bus",
    help: "with mode accept: the URL of a durable bus; handlers are on that",
};

/// A consumer of what is posted to a path of this program.
///
/// Requests are POSTs of JSON, or CloudEvents in each of their modes. A sender is answered 2xx only
/// once every handler that wants the event is through with it, or, with `mode = "accept"`, once a
/// durable bus has it; until then the sender has it, and sends it again.
///
/// | status | |
/// |---|---|
/// | 200, 202 | it was handled, now or under the same id before, or nobody wants it; it is stored |
/// | 400 | it is not JSON, or no event |
/// | 401 | its signature is missing, wrong or of another time |
/// | 404, 405 | another path, another method |
/// | 408, 413, 431 | its body takes too long, is too large; its head is |
/// | 409 | an event of this id is being handled |
/// | 415 | it is compressed, or no JSON |
/// | 429 | there are too many requests; `Retry-After` |
/// | 500 | its handlers failed for good, as their policies say; sent again, it begins anew with those |
/// | 503 | not yet, not now, or not any more: it is to be sent again; `Retry-After` |
///
/// Tries after short waits are made while the sender waits, after longer ones when it sends the event
/// again; both count. Who hangs up, or is told 503 after `answer_within`, stops nothing: the handlers
/// go on, and what came of it is told when the event is sent again. Ids are kept in memory: a program
/// that starts again has forgotten them, so handlers must bear a repetition, as everywhere.
///
/// Handlers say how often they try by `.retry(..)` as on any consumer. There are no dead letters: the
/// sender has the event.
///
/// # Examples
/// ```
/// use railbus::{Payload, Value, webhook::WebhookConsumer};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let hooks = WebhookConsumer::open("webhook://127.0.0.1:0/webhooks/events").await?;
/// let completed = |payment: Payload<Value>| println!("Payment completed: {payment}");
/// hooks.on("payment.completed").run(completed).await?;
/// hooks.start().await?;
/// println!("listening on {}", hooks.address().unwrap());
/// assert_eq!((hooks.path(), hooks.bus().counters().delivered.get()), ("/webhooks/events", 0));
/// hooks.stop().await?; // or until_signal(): SIGINT or SIGTERM, then the same
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct WebhookConsumer {
    consumer: Consumer,
    hook: Arc<Webhook>,
    // Where a bus takes the events: the task that hands them on.
    accepts: Option<Arc<Mutex<Option<JoinHandle<()>>>>>,
}

impl WebhookConsumer {
    /// Opens a consumer that listens where a URL, a map, a table or
    /// [`Options`](crate::options::Options) say, with these [`SETTINGS`], those of a
    /// [`Consumer`], and
    ///
    /// - `mode`: `handle` (default), or `accept`: events go to a durable bus, and senders are told
    ///   202 when it has them. Handlers are on that bus then;
    /// - `bus`: with `mode = "accept"`, the URL of that bus.
    ///
    /// Until [`WebhookConsumer::start`] senders are told to come again.
    ///
    /// # Errors
    /// Returns a config error for a setting that is wrong or missing, an unavailable one if the port is
    /// taken, an unsupported one for a bus that is not durable.
    ///
    /// # Examples
    /// ```
    /// use railbus::{json, webhook::{SETTINGS, WebhookConsumer}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let map = json!({
    ///     "backend": "webhook", "host": "127.0.0.1", "port": 0, "path": "/hooks",
    ///     "scheme": "github", "secret": "It's a Secret to Everybody",
    /// });
    /// let hooks = WebhookConsumer::open(map).await?;
    /// assert!(!format!("{hooks:?}").contains("Everybody"));
    ///
    /// let refused = WebhookConsumer::open("webhook://127.0.0.1:0/?scheme=github").await.unwrap_err();
    /// assert!(refused.to_string().ends_with("requests are to be signed, and no secret is said"));
    /// assert!(SETTINGS.iter().any(|setting| setting.key == "secret_env"));
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn open(options: impl IntoOptions) -> Result<Self> {
        let mut options = checked(options)?;
        let modes = [("handle", false), ("accept", true)];
        let accepts = options.one_of(MODE.key, &modes)?.unwrap_or_default();
        options.take(MODE.key);
        match (options.take(BUS.key), accepts) {
            (None, false) => {
                let mut hook = None;
                let open = async |options: Options| {
                    let opened = Arc::new(Webhook::listen(&options).await?);
                    hook = Some(Arc::clone(&opened));
                    Ok(Bus::over(opened))
                };
                let consumer = Consumer::open_by(options, SETTINGS, open).await?;
                let hook = hook.ok_or_else(unopened)?;
                Ok(Self { consumer, hook, accepts: None })
            }
            (Some(bus), true) => {
                let mut bus = Options::parse(&bus).map_err(|error| error.with("in", "bus"))?;
                let moved = ["group", "batch_size", "max_workers", "poll_interval", "lease"];
                for key in moved {
                    if let Some(value) = options.take(key) {
                        bus.set(key, value);
                    }
                }
                Self::accept(options, Consumer::open(bus).await?).await
            }
            (Some(_), false) => {
                Err(config("a bus is named, and nothing says that it takes the events")
                    .hint("set mode to accept"))
            }
            (None, true) => {
                Err(config("mode is accept, and no bus is named that takes the events")
                    .hint("set bus to the URL of a durable bus, such as sqlite:hooks.db"))
            }
        }
    }

    /// Opens one whose events go to the bus of `consumer`, which must be durable; senders are told 202
    /// when it has them. Its handlers are the consumer's.
    ///
    /// # Errors
    /// As [`WebhookConsumer::open`].
    ///
    /// # Examples
    /// ```
    /// use railbus::{Consumer, webhook::WebhookConsumer};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let jobs = Consumer::open("memory:?group=jobs").await?;
    /// let refused = WebhookConsumer::accept("webhook://127.0.0.1:0/hooks", jobs).await.unwrap_err();
    /// assert!(refused.to_string().contains("memory does not survive the process"));
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn accept(options: impl IntoOptions, consumer: Consumer) -> Result<Self> {
        let options = checked(options)?;
        check_durable(&consumer)?;
        let hook = Arc::new(Webhook::accepting(&options).await?);
        Ok(Self { consumer, hook, accepts: Some(Arc::default()) })
    }

    /// Makes one for a server of your own: [`WebhookConsumer::router`] is mounted there. Settings of a
    /// server, host and port and certificates, are that server's.
    ///
    /// # Errors
    /// As [`WebhookConsumer::open`].
    ///
    /// # Examples
    /// ```
    /// use railbus::{Payload, Value, json, webhook::WebhookConsumer};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let settings = json!({ "backend": "webhook", "path": "/hooks", "type": "order.placed" });
    /// let hooks = WebhookConsumer::mounted(settings).await?;
    /// hooks.on("order.*").run(async |order: Payload<Value>| println!("{order}")).await?;
    /// hooks.start().await?;
    /// let app: axum::Router = axum::Router::new().nest("/shop", hooks.router());
    /// assert!(hooks.address().is_none());
    /// # hooks.stop().await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn mounted(options: impl IntoOptions) -> Result<Self> {
        let mut hook = None;
        let open = async |options: Options| {
            let opened = Arc::new(Webhook::mounted(&options, false)?);
            hook = Some(Arc::clone(&opened));
            Ok(Bus::over(opened))
        };
        let consumer = Consumer::open_by(checked(options)?, SETTINGS, open).await?;
        Ok(Self { consumer, hook: hook.ok_or_else(unopened)?, accepts: None })
    }

    /// Makes one for a server of your own whose events go to the bus of `consumer`, as
    /// [`WebhookConsumer::accept`] does.
    ///
    /// # Errors
    /// As [`WebhookConsumer::accept`].
    ///
    /// # Examples
    /// ```
    /// use railbus::{Consumer, webhook::WebhookConsumer};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let jobs = Consumer::open("memory:?group=jobs").await?;
    /// assert!(WebhookConsumer::mounted_accept("webhook:/hooks", jobs).is_err(), "not durable");
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub fn mounted_accept(options: impl IntoOptions, consumer: Consumer) -> Result<Self> {
        let options = checked(options)?;
        check_durable(&consumer)?;
        let hook = Arc::new(Webhook::mounted(&options, true)?);
        Ok(Self { consumer, hook, accepts: Some(Arc::default()) })
    }

    /// Starts a subscription, as [`Consumer::on`] does.
    pub fn on(&self, predicate: impl Into<Predicate>) -> On {
        self.consumer.on(predicate)
    }

    /// Begins to take events. Again is fine.
    ///
    /// # Errors
    /// As [`Consumer::start`].
    pub async fn start(&self) -> Result<()> {
        self.consumer.start().await?;
        let Some(accepts) = &self.accepts else { return Ok(()) };
        if accepts.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let request = Subscribe {
            group: Some(self.consumer.group().into()),
            interest: Interest::all(),
            start: Start::default(),
            lease: LEASE,
            order: Order::Any,
        };
        let source = self.hook.subscribe(request).await?;
        let runtime = task::runtime("start")?;
        let handing_on = hand_on(source, self.consumer.bus().clone());
        *accepts.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime.spawn(handing_on));
        Ok(())
    }

    /// Starts it, waits for SIGINT or SIGTERM, and stops it, as [`Consumer::until_signal`] does.
    ///
    /// # Examples
    /// ```no_run
    /// use railbus::{Event, webhook::WebhookConsumer};
    ///
    /// #[railbus::main]
    /// async fn main() -> railbus::Result<()> {
    ///     let url = "webhook://0.0.0.0:8080/hooks?scheme=github&secret_env=HOOK_SECRET";
    ///     let hooks = WebhookConsumer::open(url).await?;
    ///     hooks.on("push").run(async |push: Event| println!("{}", push.id())).await?;
    ///     hooks.until_signal().await
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Consumer::until_signal`].
    pub async fn until_signal(&self) -> Result<()> {
        self.start().await?;
        let ended = self.consumer.until_signal().await;
        self.stop().await.and(ended)
    }

    /// Stops it: senders are told to come again, handlers in flight finish and are answered, for at
    /// most 30 seconds. Again is fine.
    ///
    /// # Errors
    /// As [`Consumer::stop`].
    pub async fn stop(&self) -> Result<()> {
        self.stop_within(STOP_WITHIN).await
    }

    /// Stops it as [`WebhookConsumer::stop`] does, by another deadline.
    ///
    /// # Errors
    /// As [`Consumer::stop`].
    ///
    /// # Examples
    /// ```
    /// use railbus::{ErrorKind, Event, webhook::WebhookConsumer};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let hooks = WebhookConsumer::open("webhook://127.0.0.1:0/").await?;
    /// hooks.on("push").run(async |_: Event| {}).await?;
    /// hooks.start().await?;
    /// hooks.stop_within(Duration::from_secs(1)).await?;
    /// assert_eq!(hooks.start().await.unwrap_err().kind(), ErrorKind::Closed);
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn stop_within(&self, deadline: Duration) -> Result<()> {
        if self.accepts.is_some() {
            self.hook.close(deadline).await?;
        }
        self.consumer.stop_within(deadline).await
    }

    /// Returns where it listens; none if it is mounted in another server.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.hook.address()
    }

    /// Returns the path that is posted to.
    #[must_use]
    pub fn path(&self) -> &str {
        self.hook.path()
    }

    /// Returns the bus that its handlers are on: for its counters, and what handlers take as
    /// [`State`](crate::State).
    #[must_use]
    pub fn bus(&self) -> &Bus {
        self.consumer.bus()
    }

    /// Returns a router that takes what is posted to the path, to be mounted in a server of your own;
    /// how many connections there are, and how long they wait, is that server's.
    pub fn router(&self) -> Router {
        let hook = Arc::clone(&self.hook);
        let answer = move |request: Request| {
            let hook = Arc::clone(&hook);
            async move { hook.answer(request).await.map(Body::new) }
        };
        Router::new().route(self.path(), any(answer))
    }
}

/// Reads options, which must be a webhook's.
fn checked(options: impl IntoOptions) -> Result<Options> {
    let options = options.into_options()?;
    match options.backend() {
        "webhook" => Ok(options),
        other => Err(config(format!("`{other}` takes no webhooks"))
            .hint("write webhook://HOST:PORT/PATH, or open a railbus::Consumer")),
    }
}

fn check_durable(consumer: &Consumer) -> Result<()> {
    let capability = consumer.bus().capability();
    match capability.durable {
        true => Ok(()),
        false => {
            let what =
                "does not survive the process: what senders were told is stored would be lost";
            let hint =
                "name a durable bus, such as sqlite:hooks.db; or let handlers answer, mode=handle";
            Err(capability.refuse("open webhook", what, &[]).hint(hint))
        }
    }
}

fn config(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "open webhook", why)
}

fn unopened() -> Error {
    Error::new(ErrorKind::Internal, "open webhook", "it was not opened")
}

impl fmt::Debug for WebhookConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.address().map_or_else(|| "mounted".to_owned(), |at| at.to_string());
        write!(f, "WebhookConsumer({at}{}, {:?})", self.path(), self.consumer)
    }
}
