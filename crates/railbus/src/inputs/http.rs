//! An input that is posted to: senders are told when the bus has what they sent.

use crate::{
    backend::{
        Backend, Order, Outgoing, Position, Receipt, Settle, Source, Start, Subscribe, Verdict,
    },
    backends::webhook::Webhook,
    error::{Error, ErrorKind, Result},
    input::EventInput,
    options::Options,
    predicate::Interest,
};
use async_trait::async_trait;
use std::{mem, sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// How many events are published at once.
const BATCH: usize = 256;

/// How long a bus may take before a sender is told to come again.
const LEASE: Duration = Duration::from_secs(120);

/// How long answers that are due may take when the input ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Events that are posted to this program, in the forms of a
/// [`WebhookConsumer`](crate::webhook::WebhookConsumer). Senders are told 202 when the bus has
/// their event, and 503 while it can't take it.
///
/// It has no position: what a sender was not told is stored, it sends again.
///
/// # Examples
/// ```
/// use railbus::{input::EventInput, inputs::http::Http, options::Options};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let options = Options::parse("webhook://127.0.0.1:0/hooks?type_header=x-event")?;
/// let mut input = Http::new("hooks", options)?;
/// input.resume(None).await?; // listens from here on
/// assert!(input.is_endless() && input.name() == "hooks");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Http {
    name: String,
    options: Options,
    open: Option<Open>,
    // Returned by `next`, not yet known to be stored.
    taken: Vec<Receipt>,
}

struct Open {
    hook: Arc<Webhook>,
    source: Arc<dyn Source>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.hook.address())
    }
}

impl Http {
    /// Creates an input that listens where the options say, once it is resumed.
    ///
    /// # Errors
    /// Returns a config error for options that are no webhook's, or wrong.
    pub fn new(name: impl Into<String>, options: Options) -> Result<Self> {
        if options.backend() != "webhook" {
            let why = format!("`{}` is nothing to post to", options.backend());
            return Err(
                Error::new(ErrorKind::Config, "input", why).hint("write webhook://HOST:PORT/PATH")
            );
        }
        crate::backends::webhook::check(&options)?;
        Ok(Self { name: name.into(), options, open: None, taken: Vec::new() })
    }

    /// Settles what was taken.
    async fn settle(&mut self, verdict: Verdict) {
        let taken = mem::take(&mut self.taken);
        if let (Some(open), false) = (&self.open, taken.is_empty()) {
            let settle = |receipt| Settle::new(receipt, verdict.clone());
            let all: Vec<_> = taken.into_iter().map(settle).collect();
            drop(open.source.settle(&all).await);
        }
    }
}

#[async_trait]
impl EventInput for Http {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_endless(&self) -> bool {
        true
    }

    async fn resume(&mut self, _: Option<Position>) -> Result<()> {
        if self.open.is_none() {
            let hook = Arc::new(Webhook::accepting(&self.options).await?);
            let request = Subscribe {
                group: Some(self.name.clone()),
                interest: Interest::all(),
                start: Start::default(),
                lease: LEASE,
                order: Order::Any,
            };
            let source = hook.subscribe(request).await?;
            self.open = Some(Open { hook, source });
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Vec<Outgoing>> {
        // Its publishing was given up.
        self.settle(Verdict::Nack { delay: Duration::ZERO }).await;
        let Some(open) = &self.open else { return Ok(Vec::new()) };
        let leased = open.source.fetch(BATCH).await?;
        let mut events = Vec::with_capacity(leased.len());
        for one in leased {
            if let Ok(event) = one.event {
                self.taken.push(one.receipt);
                events.push(event.into());
            }
        }
        Ok(events)
    }

    async fn published(&mut self) {
        self.settle(Verdict::Ack).await;
    }
}

impl Drop for Http {
    /// Answers that are due go out in the background.
    fn drop(&mut self) {
        let (Some(Open { hook, source }), Ok(runtime)) = (self.open.take(), Handle::try_current())
        else {
            return;
        };
        let given_up = mem::take(&mut self.taken).into_iter();
        let given_up: Vec<_> = given_up
            .map(|receipt| Settle::new(receipt, Verdict::Release { delay: Duration::ZERO }))
            .collect();
        runtime.spawn(async move {
            drop(source.settle(&given_up).await);
            drop(hook.close(CLOSE_WITHIN).await);
        });
    }
}
