//! Requests: events that wait for a reply.

use super::{
    asking::Ear,
    join::LEASE,
    open::{Bus, Inner, able},
    reply::REPLY_TO,
    report::Report,
};
use crate::{
    backend::{Broadcast, Order, Source, Start, Subscribe},
    error::{Error, ErrorKind, Result},
    event::{Event, IntoEvent, Type},
    predicate, task,
};
use std::{
    borrow::Borrow,
    sync::{Arc, Weak},
    time::Duration,
};

impl Bus {
    /// Publishes an event and waits for the reply to it, for `timeout` at most.
    ///
    /// A handler answers by returning a [`Reply`](crate::Reply), or by [`Bus::reply`]. In a group one
    /// member does; without, every bus may, and the first reply counts. The reply belongs to the
    /// conversation of the request and names it as its cause. Replies come on one topic of this bus,
    /// whoever asked. A handler may ask, but not on its own topic where a backend brings broadcasts:
    /// those are handled one after another, so that it would wait for itself until the timeout.
    ///
    /// # Errors
    /// Returns a timeout if no reply came in time, a handler error if the handler failed for the last
    /// time, a not found error if nobody in this process wants the event and nobody else can, a
    /// closed one if the bus closes meanwhile, an unsupported one for a backend without broadcast;
    /// else as [`Bus::publish`]. Under way already is an invalid event.
    ///
    /// # Cancel safety
    /// If it is dropped, the event may have been published; nobody waits for the reply.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, ErrorKind, Event, Payload, Reply};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::new();
    /// bus.on("price.asked").run(|item: Payload<String>| Reply::of(item.len())).await?;
    /// let soon = Duration::from_secs(5);
    /// let reply = bus.request(Event::new("price.asked").payload("lamp"), soon).await?;
    /// assert_eq!((reply.event_type(), reply.payload::<usize>()?), ("reply", 4));
    ///
    /// bus.on("order.placed").run(|_: &Event| {}).await?;
    /// let late = bus.request(("order.placed", 7), Duration::from_millis(1)).await.unwrap_err();
    /// assert_eq!(late.kind(), ErrorKind::Timeout);
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn request(&self, event: impl IntoEvent, timeout: Duration) -> Result<Event> {
        let held = event.into_event();
        Box::pin(self.request_event(held.borrow(), timeout)).await
    }

    async fn request_event(&self, event: &Event, timeout: Duration) -> Result<Event> {
        self.check_answerable()?;
        let sleep = task::sleep("request", timeout)?;
        let asking = &self.0.asking;
        let mut wait = asking.wait_for(event.id()).ok_or_else(|| {
            let why = "somebody waits for the reply to this very event";
            Error::new(ErrorKind::InvalidEvent, "request", why)
                .with("event", event.id())
                .hint("give each request an event, and so an id, of its own")
        })?;
        let metadata = [(REPLY_TO.to_owned(), asking.topic().to_owned())].into();
        let asked = event.with_metadata(metadata);
        let answering = async {
            self.hear_replies().await?;
            let report = self.publish(&asked).await?;
            self.check_wanted(&report)?;
            wait.reply().await.ok_or_else(|| {
                let why = "the bus closed before the reply came";
                Error::new(ErrorKind::Closed, "request", why)
            })
        };
        let reply = tokio::select! {
            biased;
            reply = answering => reply,
            () = sleep => Err(Error::new(
                ErrorKind::Timeout,
                "request",
                format!("no reply came within {timeout:?}"),
            )),
        };
        let of = |error: Error| error.with("event", event.id()).with("type", event.event_type());
        match reply {
            Ok(reply) if reply.event_type() == Type::REPLY_ERROR => Err(of(refused(&reply))),
            reply => reply.map_err(of),
        }
    }

    /// Returns how many requests wait for their replies.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(railbus::Bus::new().waiting_for_replies(), 0);
    /// ```
    #[must_use]
    pub fn waiting_for_replies(&self) -> usize {
        self.0.asking.count()
    }

    /// Refuses what needs more of an event than what its backend's format carries.
    pub(super) fn check_whole(&self, operation: &'static str) -> Result<()> {
        let why = "the backend's format carries topic and payload alone";
        if self.0.backend.is_bare() { Err(unfit(operation, why)) } else { Ok(()) }
    }

    /// Refuses to ask where the backend's format leaves behind what an answer needs.
    fn check_answerable(&self) -> Result<()> {
        self.check_whole("request")?;
        let why = "the backend's format leaves behind where replies go";
        if self.0.backend.keeps_metadata() { Ok(()) } else { Err(unfit("request", why)) }
    }

    /// Refuses to wait for what nobody can answer: inside a process it is known who hears.
    fn check_wanted(&self, report: &Report) -> Result<()> {
        if self.0.inline && report.matched == 0 {
            let why = "nobody wants the event, so nobody can answer";
            return Err(Error::new(ErrorKind::NotFound, "request", why)
                .hint("subscribe first: bus.on(..).run(..) with a handler that returns a Reply"));
        }
        Ok(())
    }

    /// Sees to it that replies are heard, once a bus.
    async fn hear_replies(&self) -> Result<()> {
        let asking = &self.0.asking;
        let mut ear = asking.ear.lock().await;
        if ear.is_some() {
            return Ok(());
        }
        let inner = Arc::downgrade(&self.0);
        let topic = predicate::topic(asking.topic());
        *ear = Some(match self.capability().broadcast {
            Broadcast::Inline => {
                let replied = move |reply: &Event| {
                    if let Some(inner) = inner.upgrade() {
                        inner.asking.replied(reply);
                    }
                };
                self.on(topic).priority(i32::MIN).run(replied).now()?;
                Ear::Inline
            }
            Broadcast::Live => {
                // Not by way of the table: a handler that asks would wait for itself there.
                let request = Subscribe {
                    group: None,
                    interest: topic.interest(),
                    start: Start::Newest,
                    lease: LEASE,
                    order: Order::Any,
                };
                let source = self.0.backend.subscribe(request).await?;
                let hearing = self.0.bounded(hear(inner, Arc::clone(&source)));
                match self.0.runtime() {
                    Some(runtime) => drop(runtime.spawn(hearing)),
                    None => drop(tokio::spawn(hearing)),
                }
                Ear::Source(source)
            }
            Broadcast::None => {
                let able = able(|capability| capability.broadcast != Broadcast::None);
                let what = "has no broadcast, by which a reply would come";
                return Err(self.capability().refuse("request", what, &able));
            }
        });
        Ok(())
    }
}

/// Returns the error for what the backend's format can't carry.
fn unfit(operation: &'static str, why: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation, why)
        .hint("set format=cloudevents, the default, or dataknobs")
}

/// Returns what a reply says that is none.
fn refused(reply: &Event) -> Error {
    let why = reply.get::<String>("error").unwrap_or_else(|| "it did not say why".into());
    Error::new(ErrorKind::Handler, "request", "the handler failed").because(why)
}

/// Hands replies to who asked, until no more come.
async fn hear(inner: Weak<Inner>, source: Arc<dyn Source>) {
    loop {
        let heard = source.fetch(256).await;
        let Some(inner) = inner.upgrade() else { return };
        match heard {
            Ok(heard) if heard.is_empty() => return inner.asking.end(),
            Ok(heard) => {
                for reply in heard.iter().filter_map(|leased| leased.event.as_ref().ok()) {
                    inner.asking.replied(reply);
                }
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "listening to replies failed; trying again");
                drop(inner);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => {
                tracing::error!(%error, "listening to replies ended");
                // Who asks next begins anew, and is not one of those who are let go.
                let mut ear = inner.asking.ear.lock().await;
                inner.asking.end();
                *ear = None;
                return;
            }
        }
    }
}
