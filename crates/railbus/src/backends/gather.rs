//! Publishes of many callers at once, put together into few requests.
//!
//! Whoever publishes while nothing is on its way sends at once, in its own task: alone, nobody waits
//! and nothing changes tasks. What comes meanwhile queues and goes with the next request, all of it.
//! So the more there is to send, the larger the requests are, without a clock.

use crate::error::{Error, ErrorKind, Result};
use futures_util::future::BoxFuture;
use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::{runtime::Handle, sync::oneshot, task::yield_now};

/// How large requests may be, and how many are on their way at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Items of a request. What one caller gives together stays together, even if it is more.
    pub(super) items: usize,
    /// The weight of a request, with the same exception.
    pub(super) weight: usize,
    /// Requests on their way at once.
    pub(super) flights: usize,
}

/// Sends a request and returns one result an item, in their order.
type Sending<T> = dyn Fn(Vec<T>) -> Request + Send + Sync;

/// A request on its way.
type Request = BoxFuture<'static, Vec<Result<()>>>;

/// Puts together what many callers send at once.
pub(super) struct Gather<T>(Arc<Inner<T>>);

struct Inner<T> {
    send: Box<Sending<T>>,
    weigh: fn(&T) -> usize,
    limits: Limits,
    line: Mutex<Line<T>>,
}

struct Line<T> {
    flying: usize,
    waiting: VecDeque<Waiting<T>>,
}

struct Waiting<T> {
    items: Vec<T>,
    weight: usize,
    reply: oneshot::Sender<Vec<Result<()>>>,
}

impl<T> fmt::Debug for Gather<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0.line();
        let mut shown = f.debug_struct("Gather");
        shown.field("flying", &line.flying).field("waiting", &line.waiting.len()).finish()
    }
}

impl<T> Clone for Gather<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Gather<T> {
    /// Creates a line in front of `send`.
    pub(super) fn new<F>(
        limits: Limits,
        weigh: fn(&T) -> usize,
        send: impl Fn(Vec<T>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<Result<()>>> + Send + 'static,
    {
        let send = Box::new(move |items| Box::pin(send(items)) as Request);
        let line = Mutex::new(Line { flying: 0, waiting: VecDeque::new() });
        Self(Arc::new(Inner { send, weigh, limits, line }))
    }

    /// Sends the items, with whatever others send at the same time; returns one result each.
    ///
    /// # Cancel safety
    /// What was given is sent even if nobody waits for it any more.
    pub(super) async fn put(&self, items: Vec<T>) -> Vec<Result<()>> {
        let count = items.len();
        if count == 0 {
            return Vec::new();
        }
        let waiting = {
            let mut line = self.0.line();
            if line.flying < self.0.limits.flights {
                line.flying += 1;
                Err(items)
            } else {
                let weight = items.iter().map(self.0.weigh).sum();
                let (reply, replied) = oneshot::channel();
                line.waiting.push_back(Waiting { items, weight, reply });
                Ok(replied)
            }
        };
        match waiting {
            Err(items) => {
                let seat = Seat { inner: Arc::clone(&self.0), held: Held::Caller };
                let request = (self.0.send)(items);
                Flight { request: Some((request, seat)) }.await
            }
            Ok(replied) => replied.await.unwrap_or_else(|_| vec![Err(cut_off()); count]),
        }
    }
}

impl<T> Inner<T> {
    fn line(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what goes with the next request; if nothing waits, the place is free again.
    fn next(&self) -> Option<Vec<Waiting<T>>> {
        let mut line = self.line();
        let (mut items, mut weight) = (0, 0);
        let fits = |one: &Waiting<T>| {
            items += one.items.len();
            weight += one.weight;
            items <= self.limits.items && weight <= self.limits.weight
        };
        // The first goes whatever its size.
        let count = line.waiting.iter().map(fits).take_while(|fits| *fits).count().max(1);
        if line.waiting.is_empty() {
            line.flying -= 1;
            return None;
        }
        let count = count.min(line.waiting.len());
        Some(line.waiting.drain(..count).collect())
    }
}

/// A place among the requests on their way. Whoever lets go of it hands it on to those that wait.
struct Seat<T: Send + 'static> {
    inner: Arc<Inner<T>>,
    held: Held,
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
        while let Some(waiting) = self.inner.next() {
            let (mut items, mut replies) = (Vec::new(), Vec::with_capacity(waiting.len()));
            for one in waiting {
                replies.push((one.items.len(), one.reply));
                if items.is_empty() {
                    items = one.items;
                } else {
                    items.extend(one.items);
                }
            }
            let mut results = (self.inner.send)(items).await.into_iter();
            for (count, reply) in replies {
                // Nobody may wait any more.
                let _ = reply.send(results.by_ref().take(count).collect());
            }
            // Whoever was told may have more at once: it goes together, not each in its turn.
            yield_now().await;
        }
        self.held = Held::Nobody;
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
            Some(runtime) if !line.waiting.is_empty() => {
                let seat = Self { inner: Arc::clone(&self.inner), held: Held::Driver };
                drop(line);
                runtime.spawn(seat.drive());
            }
            // A runtime has ended or a request panicked: whoever waits learns that nobody is left to send it.
            _ => {
                line.flying -= 1;
                let cut_off = std::mem::take(&mut line.waiting);
                drop(line);
                drop(cut_off);
            }
        }
    }
}

/// A request on its way in its caller's task; if that is dropped, it goes on in one of its own.
struct Flight<T: Send + 'static> {
    request: Option<(Request, Seat<T>)>,
}

impl<T: Send + 'static> Future for Flight<T> {
    type Output = Vec<Result<()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((request, _)) = &mut self.request else { return Poll::Pending };
        let results = ready!(request.as_mut().poll(cx));
        self.request = None;
        Poll::Ready(results)
    }
}

impl<T: Send + 'static> Drop for Flight<T> {
    fn drop(&mut self) {
        // A panic in the request itself must not be polled again.
        if let Some((request, seat)) = self.request.take()
            && !std::thread::panicking()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                let _ = request.await;
                drop(seat);
            });
        }
    }
}

fn cut_off() -> Error {
    Error::new(ErrorKind::Unavailable, "publish", "the task that was to send it has ended")
        .hint("it was not sent: publish it again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::HashSet,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
    };
    use tokio::{sync::Semaphore, task::JoinSet};

    const LIMITS: Limits = Limits { items: 10, weight: 1_000, flights: 1 };

    type Sent = Arc<Mutex<Vec<Vec<usize>>>>;

    /// A line whose requests wait for a permit each, and what they held.
    fn held(limits: Limits) -> (Gather<usize>, Arc<Semaphore>, Sent) {
        let (gate, sent) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (open, seen) = (Arc::clone(&gate), Arc::clone(&sent));
        let gather = Gather::new(
            limits,
            |item| *item,
            move |items: Vec<usize>| {
                let (open, seen) = (Arc::clone(&open), Arc::clone(&seen));
                async move {
                    seen.lock().unwrap().push(items.clone());
                    open.acquire().await.unwrap().forget();
                    let odd = |n| Error::new(ErrorKind::InvalidEvent, "publish", format!("{n}"));
                    items.iter().map(|n| if n % 2 == 0 { Ok(()) } else { Err(odd(n)) }).collect()
                }
            },
        );
        (gather, gate, sent)
    }

    /// Lets all tasks run until they wait.
    async fn settle() {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_that_is_alone_is_sent_in_its_own_task() {
        let (gather, gate, _) = held(LIMITS);
        gate.add_permits(1);
        // Without another task there is nothing to yield to: one poll is enough.
        let results = futures_util::poll!(Box::pin(gather.put(vec![2, 3])));
        let Poll::Ready(results) = results else { panic!("it waited") };
        assert!(results[0].is_ok());
        assert_eq!(results[1].as_ref().unwrap_err().message(), "3");
    }

    #[tokio::test]
    async fn what_comes_meanwhile_goes_together_and_each_gets_its_own_result() {
        let (gather, gate, sent) = held(LIMITS);
        let mut callers = JoinSet::new();
        for n in 0..16 {
            let gather = gather.clone();
            callers.spawn(async move { (n, gather.put(vec![n]).await) });
        }
        settle().await;
        gate.add_permits(3);
        while let Some(done) = callers.join_next().await {
            let (n, results) = done.unwrap();
            assert_eq!((results.len(), results[0].is_ok()), (1, n % 2 == 0));
        }
        let sizes: Vec<_> = sent.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 10, 5]);
        let all: HashSet<_> = sent.lock().unwrap().concat().into_iter().collect();
        assert_eq!(all.len(), 16);
    }

    #[tokio::test]
    async fn requests_are_bounded_by_weight_and_one_that_is_too_heavy_goes_alone() {
        let (gather, gate, sent) = held(Limits { weight: 100, ..LIMITS });
        let puts = [2, 60, 30, 20, 500, 4].map(|n| gather.put(vec![n]));
        let mut all = futures_util::future::join_all(puts);
        assert!(futures_util::poll!(&mut all).is_pending());
        gate.add_permits(100);
        all.await;
        let sent = sent.lock().unwrap();
        assert_eq!(*sent, [vec![2], vec![60, 30], vec![20], vec![500], vec![4]]);
    }

    #[tokio::test]
    async fn a_caller_that_is_gone_holds_nobody_up_and_loses_nothing() {
        let (gather, gate, sent) = held(LIMITS);
        let mut first = Box::pin(gather.put(vec![2]));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(gather.put(vec![4]));
        assert!(futures_util::poll!(&mut second).is_pending());
        let third = gather.put(vec![6]);
        drop(first);
        drop(second);
        gate.add_permits(2);
        assert!(third.await[0].is_ok());
        assert_eq!(*sent.lock().unwrap(), [vec![2], vec![4, 6]]);
        settle().await;
        assert_eq!(gather.0.line().flying, 0);
    }

    #[tokio::test]
    async fn a_request_that_panics_takes_its_own_caller_alone() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let gather = Gather::new(
            LIMITS,
            |_: &usize| 1,
            move |items: Vec<usize>| {
                let first = count.fetch_add(1, SeqCst) == 0;
                async move {
                    yield_now().await;
                    assert!(!first, "the first request panics");
                    vec![Ok(()); items.len()]
                }
            },
        );
        let (one, other) = (gather.clone(), gather.clone());
        let first = tokio::spawn(async move { one.put(vec![1]).await });
        settle_once().await;
        let second = tokio::spawn(async move { other.put(vec![2]).await });
        assert!(first.await.is_err());
        assert!(second.await.unwrap()[0].is_ok());
    }

    async fn settle_once() {
        yield_now().await;
    }

    #[test]
    fn a_runtime_that_ends_cuts_off_those_that_wait_elsewhere() {
        let (gather, _gate, _) = held(LIMITS);
        let ending = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let first = gather.clone();
        ending.spawn(async move { first.put(vec![2]).await });
        ending.block_on(settle());
        let staying = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let second = staying.spawn(async move { gather.put(vec![4]).await });
        staying.block_on(settle());
        drop(ending);
        let results = staying.block_on(second).unwrap();
        assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
