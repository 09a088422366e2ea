//! Subscribing: what, then how, then who runs.

#[cfg(feature = "testing")]
use super::watched::Whose;
use super::{
    entered::{Entered, attach_all},
    gate::Gate,
    join::{LEASE, LIMIT},
    members::Terms,
    open::Bus,
    reply::Replying,
    subscription::Subscription,
    table::Refusal,
};
use crate::{
    backend::{Order, Start},
    consumer::{Credits, Entry, Pull},
    credit::Credit,
    delivery::{Class, Then},
    error::{Error, ErrorKind, Result},
    handler::{AnyHandler, Gathered, Handler, Size, erase},
    id::new_id,
    middleware::{Layered, Middleware},
    predicate::Predicate,
    retry::Retry,
    task,
};
use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

impl Bus {
    /// Starts a subscription to the events that `predicate` matches: a text is a type or a
    /// pattern over types, a closure or a composed [`Predicate`] says more.
    pub fn on(&self, predicate: impl Into<Predicate>) -> On {
        On {
            bus: self.clone(),
            predicate: predicate.into(),
            group: None,
            name: None,
            priority: 1,
            retry: None,
            retry_twice: false,
            then: None,
            classify: None,
            lease: LEASE,
            limit: None,
            start: None,
            order: Order::Any,
            batch: None,
            pull: Pull::default(),
            credits: Credits::default(),
            gate: None,
            manual: false,
            layers: Vec::new(),
        }
    }

    /// Opens several subscriptions at once: their groups fetch only when all are in the table.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// let charge = bus.on("order.placed").group("shop").run(async |_: Event| {});
    /// let ship = bus.on("order.paid").group("shop").run(async |_: Event| {});
    /// assert_eq!(bus.open_all([charge, ship]).await?.len(), 2);
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Returns the first error; none of them is open then.
    ///
    /// # Cancel safety
    /// If it is dropped, none of them is open.
    pub async fn open_all(
        &self,
        openings: impl IntoIterator<Item = Opening, IntoIter: Send> + Send,
    ) -> Result<Vec<Subscription>> {
        let entered = openings.into_iter().map(Opening::enter).collect::<Result<Vec<_>>>()?;
        attach_all(&entered).await?;
        Ok(entered.into_iter().map(Entered::keep).collect())
    }
}

/// A subscription in the making; [`On::run`] gives it a handler.
///
/// # Examples
/// ```
/// use railbus::{
///     Batch, Bus, Event, Retry, backend::Start, bus::{On, Opening}, credit::Credit,
///     delivery::{Class, Then}, middlewares::Timeout,
/// };
/// use std::{sync::Arc, time::Duration};
///
/// /// Lets everything through.
/// struct Always;
///
/// #[async_trait::async_trait]
/// impl Credit for Always {
///     async fn take(&self, most: usize) -> usize {
///         most
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?;
/// let on: On = bus
///     .on("order.placed")
///     .group("billing")
///     .named("charge")
///     .priority(0)
///     .retry(Retry::attempts(3))
///     .classify(|error| match error.to_string().contains("refused") {
///         true => Class::Permanent,
///         false => Class::Transient,
///     })
///     .then(Then::DeadLetter)
///     .lease(Duration::from_secs(10))
///     .limit(4)
///     .from(Start::Newest)
///     .credit(Arc::new(Always))
///     .layer(Timeout::new(Duration::from_secs(5)));
/// let opening: Opening = on.run(async |_: Event| {});
/// assert_eq!(opening.await?.name(), "charge");
/// let many = bus.on("tick").batch(100, Duration::from_millis(50));
/// many.run(async |ticks: Batch<u32>| println!("{}", ticks.len())).await?;
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[must_use = "a subscription in the making does nothing without a handler"]
pub struct On {
    pub(super) bus: Bus,
    pub(super) predicate: Predicate,
    pub(super) group: Option<String>,
    pub(super) name: Option<String>,
    priority: i32,
    pub(super) retry: Option<Retry>,
    // Whether that was said more than once.
    pub(super) retry_twice: bool,
    pub(super) then: Option<Then>,
    pub(super) classify: Option<fn(&(dyn std::error::Error + 'static)) -> Class>,
    pub(super) lease: Duration,
    pub(super) limit: Option<usize>,
    pub(super) start: Option<Start>,
    pub(super) order: Order,
    pub(super) batch: Option<Size>,
    pull: Pull,
    pub(super) credits: Credits,
    // What its group waits for before it fetches.
    gate: Option<Arc<Gate>>,
    pub(super) manual: bool,
    pub(super) layers: Vec<Arc<dyn Middleware>>,
}

impl On {
    /// Shares the events with all members of a group: stored, at least once, redelivered until
    /// settled (default: a broadcast, live, at most once).
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Names it, so that its outcomes and dead letters are known to be its own across restarts.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets when it runs among those that want the same event: lower first (default 1).
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets how often it is tried (default: 5 times in a group, once for a broadcast). Setting it twice,
    /// here or by a layer, is refused when the subscription opens.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry_twice |= self.retry.is_some();
        self.retry = Some(retry);
        self
    }

    /// Sets what follows the last try (default: dead letter in a group, drop for a broadcast).
    pub fn then(mut self, then: Then) -> Self {
        self.then = Some(then);
        self
    }

    /// Tells which errors are worth another try (default: all but a step's Failure and a payload
    /// that is of another type).
    pub fn classify(mut self, classify: fn(&(dyn std::error::Error + 'static)) -> Class) -> Self {
        self.classify = Some(classify);
        self
    }

    /// Sets how long an event is this member's (default 30 s). It is renewed while the handler runs; where
    /// the backend can't, an async handler is cut off before it ends, and a sync one must be quicker by
    /// itself. A group's longest counts.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Bounds how many deliveries of its group run at once, by fetching less (default 128). A
    /// group's smallest counts.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Lets somebody outside say how many events of its group are fetched, and when: a
    /// [`Credit`], which may be that of other subscriptions as well. A group fetches only what all of
    /// those of its subscriptions let through.
    pub fn credit(mut self, credit: Arc<dyn Credit>) -> Self {
        self.credits.add(credit);
        self
    }

    /// Sets where the group starts if it is new (default: at the oldest event retained).
    pub fn from(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Lets the group handle events of one [key](crate::EventBuilder::key) one after another, over all its
    /// members and whatever their limits, in the order they were published: one that fails holds its
    /// key until its tries are through, and no other. Events without a key are not held.
    ///
    /// It is the group's: once a subscription of any member asked for it, it stays until the group
    /// is pruned. A dead letter lets its key go on; where that must not be, say
    /// [`Then::Stop`]. An event with a [delay](crate::EventBuilder::delay) takes its place in the order
    /// when it is first delivered.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, testing::Recorder};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let (bus, recorder) = (Bus::open("memory:").await?, Recorder::new());
    /// bus.on("stock.*").group("books").ordered_by_key().limit(8).run(recorder.clone()).await?;
    /// for change in ["stock.added", "stock.taken", "stock.counted"] {
    ///     bus.publish(Event::new(change).key("bolt")).await?;
    /// }
    /// bus.idle().await?;
    /// assert_eq!(recorder.types(), ["stock.added", "stock.taken", "stock.counted"]);
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub fn ordered_by_key(mut self) -> Self {
        self.order = Order::ByKey;
        self
    }

    /// Gathers up to `max` events for each call of the handler, which takes them as a
    /// [`Batch`](crate::Batch). A batch is handled when it is full, or `linger` after its first
    /// event; leases are kept meanwhile.
    ///
    /// The limit counts events, so it is at least `max`, as are those of all subscriptions of the
    /// group, and as many batches are handled at once as it has room for (default: two, and at least
    /// 128 events). A broadcast's batch is handled after publish returns, which waits where two
    /// batches are not through; their failures are told as those of further tries are.
    pub fn batch(mut self, max: usize, linger: Duration) -> Self {
        self.batch = Some(Size { max, linger });
        self
    }

    /// Fetches as a consumer does: so much at once, so often, and not before its gate is open.
    pub(super) fn pulled(mut self, pull: Pull, gate: Arc<Gate>) -> Self {
        (self.pull, self.gate) = (pull, Some(gate));
        self
    }

    /// Lets the handler settle by hand, by a [`Lease`](crate::delivery::Lease) argument.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, delivery::Lease};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// bus.on("tick").group("g").manual().run(async |lease: Lease| lease.ack()).await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub fn manual(mut self) -> Self {
        self.manual = true;
        self
    }

    /// Puts a middleware around the handler, within those before it: the first is outermost.
    pub fn layer(mut self, layer: impl Middleware) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// Gives it the handler: a function, a closure or an async closure.
    pub fn run<M: 'static>(self, handler: impl Handler<M>) -> Opening {
        let (lasts, closing) = (self.group.is_some(), &self.bus.0.closing);
        let handler = Gathered::around(erase(handler), self.batch, lasts, closing);
        let handler = Layered::around(self.layers.clone(), handler);
        Opening { on: self, handler }
    }
}

/// A subscription that opens when awaited.
///
/// # Cancel safety
/// If what is awaited is dropped, the subscription is not open.
#[must_use = "a subscription opens when awaited"]
pub struct Opening {
    on: On,
    handler: Box<dyn AnyHandler>,
}

impl Opening {
    /// Opens it at once, where nothing needs a runtime: a broadcast on memory.
    ///
    /// # Errors
    /// As awaiting it; also if it needs a runtime.
    pub fn now(self) -> Result<Subscription> {
        if self.on.group.is_some() || !self.on.bus.0.inline {
            let why = "only a broadcast on memory opens without a runtime";
            return Err(Error::new(ErrorKind::Unsupported, "subscribe", why)
                .hint("await it instead of calling now()"));
        }
        Ok(self.enter()?.keep())
    }

    /// Checks it and puts it into the table.
    fn enter(self) -> Result<Entered> {
        let Self { mut on, handler } = self;
        on.bus.check_open("subscribe")?;
        on.set_up()?;
        let handler = Replying::around(handler, || on.policy());
        #[cfg(feature = "testing")]
        let handler = on.bus.0.watched.around(|| on.whose(), handler);
        on.check(&*handler)?;
        if on.batch.is_some() {
            let _ = on.bus.0.runtime.set(task::runtime("subscribe")?);
        }
        let policy = on.policy();
        let group = on.group.as_deref().map(Into::into);
        // Outcomes are kept under the name, so in a group it must mean the same to nobody else.
        let unnamed = || on.group.as_ref().map_or_else(String::new, |_| new_id());
        let name = on.name.unwrap_or_else(unnamed);
        let mut entry = Entry::new(name.into(), on.predicate, group, policy, handler);
        entry.priority = on.priority;
        entry.batch = on.batch.map_or(0, |size| size.max);
        entry.world = on.bus.0.world().clone();
        entry.handler.check(&entry.world)?;
        let entry = on.bus.0.table.add(entry).map_err(|refusal| match refusal {
            Refusal::Closed => Error::new(ErrorKind::Closed, "subscribe", "the bus is closed"),
            Refusal::Named(name) => {
                let why = "the group has a subscription of that name";
                Error::new(ErrorKind::Config, "subscribe", why)
                    .with("name", name)
                    .hint("outcomes and dead letters are kept under the name: give it another")
            }
        })?;
        let room = |size: Size| LIMIT.max(size.max.saturating_mul(2));
        let limit = on.limit.or(on.batch.map(room));
        let (lease, order, start) = (on.lease, on.order, on.start.unwrap_or_default());
        let terms = Terms { lease, limit, start, order, pull: on.pull, credits: on.credits };
        let subscription = Subscription { entry, bus: on.bus };
        Ok(Entered::new(subscription, terms, on.gate))
    }
}

#[cfg(feature = "testing")]
impl On {
    fn whose(&self) -> Whose {
        let named = self.name.clone().or_else(|| self.group.clone());
        Whose { name: named.unwrap_or_else(|| self.predicate.to_string()) }
    }
}

impl IntoFuture for Opening {
    type Output = Result<Subscription>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let entered = self.enter()?;
            entered.attach().await?;
            Ok(entered.keep())
        })
    }
}
