//! Publishes of many callers at once, put together into few requests.
//!
//! Whoever publishes while nothing is on its way sends at once, in its own task: alone, nobody waits
//! and nothing changes tasks. What comes meanwhile queues and goes with the next request, all of it.
//! So the more there is to send, the larger the requests are, without a clock. Where many send, few
//! large requests one after another take less than small ones side by side.
//!
//! A request in its caller's task goes on only as long as that polls it. So as soon as somebody waits
//! behind it, it gets a task of its own.
//!
//! When a request has looked for its server in vain, whatever waited meanwhile fails as it did, instead
//! of looking for it as long, each in its turn.

use super::{
    queue::Queue,
    request::{Limits, ROOM, ROOM_UNIT, Request, Sending, TRIED_FOR, Waiting, cut_off},
};
use crate::error::{Error, Result};
use smallvec::SmallVec;
use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::yield_now,
    time::Instant,
};

/// Puts together what many callers send at once.
pub(in crate::backends) struct Gather<T: Send + 'static>(pub(super) Arc<Inner<T>>);

pub(super) struct Inner<T: Send + 'static> {
    send: Box<Sending<T>>,
    weigh: fn(&T) -> usize,
    limits: Limits,
    /// How much may wait, in parts of [`ROOM_UNIT`] bytes.
    room: Arc<Semaphore>,
    line: Mutex<Line<T>>,
}

pub(super) struct Line<T: Send + 'static> {
    pub(super) queue: Queue<T>,
    /// Those on their way that may be in their callers' tasks.
    alone: SmallVec<[Weak<Flight<T>>; 2]>,
    /// When a request last looked for its server in vain, and what came of it.
    away: Option<(Instant, Error)>,
}

impl<T: Send + 'static> fmt::Debug for Gather<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0.line();
        let mut shown = f.debug_struct("Gather");
        shown
            .field("flying", &line.queue.flying)
            .field("waiting", &line.queue.waiting.len())
            .finish()
    }
}

impl<T: Send + 'static> Clone for Gather<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Gather<T> {
    /// Creates a line in front of `send`.
    pub(in crate::backends) fn new<F>(
        limits: Limits,
        weigh: fn(&T) -> usize,
        send: impl Fn(Vec<T>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<Result<()>>> + Send + 'static,
    {
        let send = Box::new(move |items| Box::pin(send(items)) as Request);
        let line = Mutex::new(Line { queue: Queue::new(), alone: SmallVec::new(), away: None });
        let room = Arc::new(Semaphore::new(ROOM as usize));
        Self(Arc::new(Inner { send, weigh, limits, room, line }))
    }

    /// Sends the items, with whatever others send at the same time; returns one result each.
    ///
    /// # Cancel safety
    /// What was given is sent even if nobody waits for it any more, unless so much waits already that
    /// it was not taken yet.
    pub(in crate::backends) async fn put(&self, items: Vec<T>) -> Vec<Result<()>> {
        let count = items.len();
        if count == 0 {
            return Vec::new();
        }
        let items = match self.fly(items) {
            Ok(flight) => return Alone(flight).await,
            Err(items) => items,
        };
        let weight: usize = items.iter().map(self.0.weigh).sum();
        // Each weighs something.
        let parts = u32::try_from((weight / ROOM_UNIT).max(count)).unwrap_or(ROOM).min(ROOM);
        let since = Instant::now();
        // It is never closed.
        let room = Arc::clone(&self.0.room).acquire_many_owned(parts).await.ok();
        if let Some(error) = self.away_since(since) {
            return vec![Err(error); count];
        }
        match self.fly_or_wait(items, weight, room) {
            Ok(flight) => Alone(flight).await,
            Err(replied) => replied.await.unwrap_or_else(|_| cut_off(count)),
        }
    }

    /// Returns how a request failed that looked for its server in vain, if one did after `since`.
    fn away_since(&self, since: Instant) -> Option<Error> {
        let line = self.0.line();
        line.away.as_ref().filter(|(at, _)| *at >= since).map(|(_, error)| error.clone())
    }

    /// Sends the items at once if there is a place free; else they wait. One look for both: whoever
    /// finds no place free waits before the last one on its way may hand it on.
    fn fly_or_wait(
        &self,
        items: Vec<T>,
        weight: usize,
        room: Option<OwnedSemaphorePermit>,
    ) -> std::result::Result<Arc<Flight<T>>, oneshot::Receiver<Vec<Result<()>>>> {
        let mut line = self.0.line();
        if line.queue.take_place(&self.0.limits) {
            drop(line);
            return Ok(self.take_off(items));
        }
        let (reply, replied) = oneshot::channel();
        line.queue.waiting.push_back(Waiting { items, weight, reply, _room: room });
        let alone = mem::take(&mut line.alone);
        drop(line);
        // Nobody waits for a caller that may not go on.
        alone.iter().filter_map(Weak::upgrade).for_each(|flight| flight.release());
        Err(replied)
    }

    /// Sends the items at once if there is a place free; else they come back.
    fn fly(&self, items: Vec<T>) -> std::result::Result<Arc<Flight<T>>, Vec<T>> {
        let is_free = self.0.line().queue.take_place(&self.0.limits);
        if is_free { Ok(self.take_off(items)) } else { Err(items) }
    }

    /// Sends the items in a place that was taken for them.
    fn take_off(&self, items: Vec<T>) -> Arc<Flight<T>> {
        let count = items.len();
        let seat = Seat { inner: Arc::clone(&self.0), held: Held::Caller, callers: 1 };
        let request = (self.0.send)(items);
        let air = Mutex::new(Air::Alone { request, seat, waits: None });
        let flight = Arc::new(Flight { air, count });
        let mut line = self.0.line();
        line.alone.retain(|other| other.strong_count() > 0);
        line.alone.push(Arc::downgrade(&flight));
        // Whoever came to wait in between did not find it.
        let waits = !line.queue.waiting.is_empty();
        drop(line);
        if waits {
            flight.release();
        }
        flight
    }
}

impl<T: Send + 'static> Inner<T> {
    pub(super) fn line(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what goes with the next request of a place whose last one came back.
    fn next(&self, landed: usize) -> Option<Vec<Waiting<T>>> {
        self.line().queue.next(&self.limits, landed)
    }

    /// Lets those that were answered go on, until no more of them come with more to send.
    async fn settle(&self) {
        let mut before = 0;
        loop {
            yield_now().await;
            let now = self.line().queue.waiting.len();
            if now == before || now >= self.limits.items {
                return;
            }
            before = now;
        }
    }
}

/// A place among the requests on their way. Whoever lets go of it hands it on to those that wait.
struct Seat<T: Send + 'static> {
    inner: Arc<Inner<T>>,
    held: Held,
    // Whose items are on their way with it.
    callers: usize,
}

/// By whom a place is held.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Caller,
    Driver,
    Nobody,
}

impl<T: Send + 'static> Seat<T> {
    /// Sends what waits until nothing does.
    async fn drive(mut self) {
        while let Some(waiting) = self.inner.next(mem::take(&mut self.callers)) {
            let (mut items, mut replies) = (Vec::new(), Vec::with_capacity(waiting.len()));
            for one in waiting {
                replies.push((one.items.len(), one.reply));
                if items.is_empty() {
                    items = one.items;
                } else {
                    items.extend(one.items);
                }
            }
            self.callers = replies.len();
            let results = (self.inner.send)(items).await;
            self.landed(&results);
            let mut results = results.into_iter();
            for (count, reply) in replies {
                // Nobody may wait any more.
                let _ = reply.send(results.by_ref().take(count).collect());
            }
            // Whoever was answered may have more at once: it goes together, not each in its turn.
            self.inner.settle().await;
        }
        self.held = Held::Nobody;
    }

    /// Fails what waits, if a request looked for its server in vain.
    fn landed(&self, results: &[Result<()>]) {
        let away = |result: &Result<()>| {
            result.as_ref().err().filter(|error| error.value(TRIED_FOR).is_some()).cloned()
        };
        let Some(error) = results.last().and_then(away) else { return };
        let mut line = self.inner.line();
        // The other one may have a connection that works.
        if line.queue.flying > 1 {
            return;
        }
        line.away = Some((Instant::now(), error.clone()));
        let waiting = mem::take(&mut line.queue.waiting);
        drop(line);
        for one in waiting {
            // Nobody may wait any more.
            let _ = one.reply.send(vec![Err(error.clone()); one.items.len()]);
        }
    }
}

impl<T: Send + 'static> Drop for Seat<T> {
    fn drop(&mut self) {
        if self.held == Held::Nobody {
            return;
        }
        let mut line = self.inner.line();
        let runtime = Handle::try_current().ok().filter(|_| self.held == Held::Caller);
        match runtime {
            Some(runtime) if !line.queue.waiting.is_empty() => {
                let (inner, callers) = (Arc::clone(&self.inner), self.callers);
                let seat = Self { inner, held: Held::Driver, callers };
                drop(line);
                runtime.spawn(seat.drive());
            }
            // A runtime has ended or a request panicked: whoever waits learns it if nobody is left to send it.
            _ => {
                line.queue.free_place(self.callers);
                if line.queue.flying > 0 {
                    return;
                }
                let cut_off = mem::take(&mut line.queue.waiting);
                drop(line);
                drop(cut_off);
            }
        }
    }
}

/// A request on its way by itself.
struct Flight<T: Send + 'static> {
    air: Mutex<Air<T>>,
    // Of its items.
    count: usize,
}

enum Air<T: Send + 'static> {
    /// In its caller's task; whom to tell if it gets another.
    Alone {
        request: Request,
        seat: Seat<T>,
        waits: Option<Waker>,
    },
    /// In a task of its own; whom to tell, if anybody waits.
    Released(Option<Waker>),
    Landed(Vec<Result<()>>),
    /// Its results were taken, it is being polled, or it panicked.
    Gone,
}

impl<T: Send + 'static> Flight<T> {
    fn air(&self) -> MutexGuard<'_, Air<T>> {
        self.air.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it a task of its own, unless it has one or is over.
    fn release(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut air = self.air();
        match mem::replace(&mut *air, Air::Released(None)) {
            Air::Alone { request, seat, waits } => {
                *air = Air::Released(waits);
                // A runtime that ends drops the task at once, and whoever drops it looks here.
                drop(air);
                let mut landing = Landing { flight: Arc::clone(self), results: Vec::new() };
                runtime.spawn(async move {
                    landing.results = request.await;
                    seat.landed(&landing.results);
                    drop(landing);
                    drop(seat);
                });
            }
            other => *air = other,
        }
    }
}

/// The end of a request in a task of its own, whichever it comes to: its caller is told.
struct Landing<T: Send + 'static> {
    flight: Arc<Flight<T>>,
    results: Vec<Result<()>>,
}

impl<T: Send + 'static> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut results = mem::take(&mut self.results);
        if results.is_empty() {
            // It panicked, or the runtime of its task has ended.
            results = cut_off(self.flight.count);
        }
        let before = mem::replace(&mut *self.flight.air(), Air::Landed(results));
        if let Air::Released(Some(waits)) = before {
            waits.wake();
        }
    }
}

/// What its caller waits for; if that is dropped, it goes on in a task of its own.
struct Alone<T: Send + 'static>(Arc<Flight<T>>);

impl<T: Send + 'static> Future for Alone<T> {
    type Output = Vec<Result<()>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut air = self.0.air();
        // Taken out: one that panics must not be polled again.
        match mem::replace(&mut *air, Air::Gone) {
            Air::Alone { mut request, seat, .. } => match request.as_mut().poll(cx) {
                Poll::Ready(results) => {
                    drop(air);
                    seat.landed(&results);
                    drop(seat);
                    Poll::Ready(results)
                }
                Poll::Pending => {
                    *air = Air::Alone { request, seat, waits: Some(cx.waker().clone()) };
                    Poll::Pending
                }
            },
            Air::Released(_) => {
                *air = Air::Released(Some(cx.waker().clone()));
                Poll::Pending
            }
            Air::Landed(results) => Poll::Ready(results),
            Air::Gone => Poll::Pending,
        }
    }
}

impl<T: Send + 'static> Drop for Alone<T> {
    fn drop(&mut self) {
        self.0.release();
    }
}
