//! The shortest code with the guarantees of a dispatch in process: the table is a snapshot that
//! publishing only reads, types are looked up by hash, handlers are closures in boxes, and one that
//! panics keeps nobody else from the event.

use arc_swap::ArcSwap;
use foldhash::fast::FixedState;
use std::{
    collections::HashMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// An event: a type and a payload.
#[derive(Debug)]
pub(crate) struct Event<P> {
    pub(crate) event_type: Arc<str>,
    pub(crate) payload: P,
}

/// Handlers by the type they want.
type Table<H> = HashMap<Arc<str>, Arc<[H]>, FixedState>;
type Sync<P> = Box<dyn Fn(&Event<P>) + Send + std::marker::Sync>;
type Async<P> = Box<dyn Fn(&Event<P>) -> Running + Send + std::marker::Sync>;
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A bus with handlers of one kind.
pub(crate) struct Bus<H>(ArcSwap<Table<H>>);

pub(crate) type SyncBus<P> = Bus<Sync<P>>;
pub(crate) type AsyncBus<P> = Bus<Async<P>>;

impl<H> Bus<H> {
    /// Creates a bus on which `handlers` want `event_type`.
    pub(crate) fn new(event_type: &str, handlers: impl IntoIterator<Item = H>) -> Self {
        let list = handlers.into_iter().collect();
        let table = Table::from_iter([(event_type.into(), list)]);
        Self(ArcSwap::from_pointee(table))
    }
}

impl<P> SyncBus<P> {
    /// Creates a bus on which so many copies of a handler want `event_type`.
    pub(crate) fn of(
        event_type: &str,
        handlers: usize,
        handler: impl Fn(&Event<P>) + Send + std::marker::Sync + Copy + 'static,
    ) -> Self {
        Self::new(event_type, (0..handlers).map(|_| Box::new(handler) as Sync<P>))
    }

    /// Calls everybody who wants the event; returns how many did not panic.
    pub(crate) fn publish(&self, event: &Event<P>) -> usize {
        let table = self.0.load();
        let Some(list) = table.get(&event.event_type) else { return 0 };
        let (mut list, mut succeeded) = (list.iter(), 0);
        let mut walk = || {
            for handler in list.by_ref() {
                handler(event);
                succeeded += 1;
            }
        };
        while catch_unwind(AssertUnwindSafe(&mut walk)).is_err() {}
        succeeded
    }
}

impl<P> AsyncBus<P> {
    /// Creates a bus on which one handler wants `event_type`.
    pub(crate) fn of<F: Future<Output = ()> + Send + 'static>(
        event_type: &str,
        handler: impl Fn(&Event<P>) -> F + Send + std::marker::Sync + 'static,
    ) -> Self {
        let handler = move |event: &Event<P>| Box::pin(handler(event)) as Running;
        Self::new(event_type, [Box::new(handler) as Async<P>])
    }

    /// Awaits everybody who wants the event; returns how many did not panic.
    pub(crate) async fn publish(&self, event: &Event<P>) -> usize {
        let table = self.0.load();
        let Some(list) = table.get(&event.event_type) else { return 0 };
        let mut succeeded = 0;
        for handler in list.iter() {
            let Ok(mut running) = catch_unwind(AssertUnwindSafe(|| handler(event))) else {
                continue;
            };
            let outcome = std::future::poll_fn(|context| {
                let poll = || running.as_mut().poll(context);
                match catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(())) => Poll::Ready(1),
                    Err(_) => Poll::Ready(0),
                }
            });
            succeeded += outcome.await;
        }
        succeeded
    }
}

/// Polls a future that is ready at once.
#[inline]
pub(crate) fn now<F: Future>(future: F) -> harness::Result<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err("it waits for something".into()),
    }
}
