//! Any layer of tower.

use crate::{
    delivery::{Delivery, Outcome, panic_text},
    error::{BoxError, Error, ErrorKind, Result},
    middleware::{Middleware, Next, Setup},
};
use async_trait::async_trait;
use futures_util::FutureExt;
use std::{
    fmt,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a layer of [tower](https://docs.rs/tower) around a handler: a limit, a timeout, a rate, what a program has of its own.
///
/// The layer is around a service that takes a [`Request`] and returns an [`Outcome`]; what the handler
/// fails with is the service's error, so that layers which look at errors see it. An error of the layer
/// itself, such as that of a timeout or of shedding load, is the try's failure as well, which the
/// policy decides about; [`Tower::on_error`] makes another outcome of it. If the layer drops its service's future,
/// the handler is dropped.
///
/// There is one service for all deliveries. It need not be `Clone`: whoever has a delivery waits in
/// line until it is ready, and calls it. A layer waits with the event claimed, its lease kept; what
/// should not be fetched in the first place is [`RateLimit`](super::RateLimit) and `.limit(..)`.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, delivery::Outcome, middlewares::Tower};
/// use std::{future::pending, time::Duration};
/// use tower::timeout::TimeoutLayer;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (bus, limit) = (Bus::new(), TimeoutLayer::new(Duration::from_millis(5)));
/// let slow = bus.on("tick").layer(Tower::new(limit.clone()));
/// slow.run(async |_: Event| pending::<()>().await).await?;
/// assert_eq!(bus.publish(Event::new("tick")).await?.failures[0].error, "request timed out");
///
/// let shrug = Tower::new(limit).on_error(|error| match error.is::<tower::timeout::error::Elapsed>() {
///     true => Outcome::Done,
///     false => Outcome::Failed(error),
/// });
/// bus.on("tock").layer(shrug).run(async |_: Event| pending::<()>().await).await?;
/// assert!(bus.publish(Event::new("tock")).await?.failures.is_empty());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub struct Tower<S> {
    service: Mutex<S>,
    on_error: fn(BoxError) -> Outcome,
}

impl<S> Tower<S> {
    /// Puts the layer around the service that runs the handler. Layers that start a task, such as a
    /// buffer's, need a runtime.
    #[must_use]
    pub fn new(layer: impl Layer<Inner, Service = S>) -> Self {
        Self { service: Mutex::new(layer.layer(Inner(()))), on_error: Outcome::Failed }
    }

    /// Makes outcomes of what the service fails with (default: [`Outcome::Failed`]).
    #[must_use]
    pub fn on_error(mut self, outcome: fn(BoxError) -> Outcome) -> Self {
        self.on_error = outcome;
        self
    }
}

/// A delivery on its way through a layer; a copy runs the handler once more.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, middlewares::{Inner, Request, Tower}};
/// use tower::util::{MapRequest, MapRequestLayer};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// fn tell(request: Request) -> Request {
///     println!("{}", request.delivery().event_type());
///     request
/// }
/// let layer = MapRequestLayer::new(tell as fn(Request) -> Request);
/// let tower: Tower<MapRequest<Inner, fn(Request) -> Request>> = Tower::new(layer);
/// let bus = Bus::new();
/// bus.on("tick").layer(tower).run(|_: &Event| {}).await?;
/// assert!(bus.publish(Event::new("tick")).await?.failures.is_empty());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Request {
    delivery: Delivery,
    run: mpsc::UnboundedSender<Reply>,
}

/// Where an outcome is waited for.
type Reply = oneshot::Sender<Outcome>;

impl Request {
    /// Returns the delivery.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({:?})", self.delivery)
    }
}

/// The service that runs the handler. It can be called from anywhere, such as a task of a layer's own:
/// the handler runs where its delivery is.
#[derive(Clone, Debug)]
pub struct Inner(());

impl Service<Request> for Inner {
    type Response = Outcome;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Outcome, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(async move {
            let (reply, outcome) = oneshot::channel();
            // Nobody listens any more if the delivery was given up.
            let sent = request.run.send(reply);
            match (sent, outcome.await) {
                (Ok(()), Ok(Outcome::Failed(error))) => Err(error),
                (Ok(()), Ok(outcome)) => Ok(outcome),
                _ => {
                    let why = "the delivery was given up";
                    Err(Error::new(ErrorKind::Closed, "handler", why).into())
                }
            }
        })
    }
}

#[async_trait]
impl<S> Middleware for Tower<S>
where
    S: Service<Request, Response = Outcome, Error: Into<BoxError>, Future: Send> + Send + 'static,
{
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
        let (run, mut runs) = mpsc::unbounded_channel();
        let request = Request { delivery: delivery.clone(), run };
        let called = async {
            let mut service = self.service.lock().await;
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(boxed)?;
            let called = service.call(request);
            drop(service);
            called.await.map_err(boxed)
        };
        let called = AssertUnwindSafe(called).catch_unwind();
        let mut called = std::pin::pin!(called);
        loop {
            // The handler runs here, since it borrows what the subscription has.
            let mut reply: Reply = tokio::select! {
                biased;
                ended = &mut called => return self.outcome(ended.map_err(panic_text)),
                Some(reply) = runs.recv() => reply,
            };
            tokio::select! {
                biased;
                ended = &mut called => return self.outcome(ended.map_err(panic_text)),
                outcome = next.again().run_contained(delivery) => drop(reply.send(outcome)),
                // The layer does not wait for it any more, and may do something else.
                () = reply.closed() => {}
            }
        }
    }

    fn open(&self, setup: &mut Setup<'_>) -> Result<()> {
        setup.needs_outcome("a layer of tower")
    }
}

fn boxed(error: impl Into<BoxError>) -> BoxError {
    error.into()
}

impl<S> Tower<S> {
    fn outcome(&self, ended: Result<Result<Outcome, BoxError>, String>) -> Outcome {
        match ended {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => (self.on_error)(error),
            Err(panic) => {
                let why = format!("a layer of tower panicked: {panic}");
                Outcome::Failed(Error::new(ErrorKind::Handler, "handler", why).into())
            }
        }
    }
}

impl<S> fmt::Debug for Tower<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tower")
    }
}
