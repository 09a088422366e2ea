//! A server for all tests of a file, and what arrives on a bus.

use railbus::{Bus, Event, predicate::Predicate};
use railbus_testbed::Postgres;
use std::{sync::OnceLock, time::Duration};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server that all tests of a file share, each with a database of its own.
pub(crate) fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start().unwrap())
}

/// What arrives at a subscription.
pub(crate) struct Heard(UnboundedReceiver<Event>);

impl Heard {
    /// Subscribes.
    pub(crate) async fn on(bus: &Bus, predicate: impl Into<Predicate>) -> Self {
        let (tell, told) = unbounded_channel();
        let on = bus.on(predicate);
        on.run(move |event: &Event| drop(tell.send(event.clone()))).await.unwrap();
        Self(told)
    }

    /// Waits for the next event.
    pub(crate) async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.0.recv()).await.expect("nothing arrived").unwrap()
    }

    /// Waits for so many, and returns their ids.
    pub(crate) async fn ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.next().await.id().to_owned());
        }
        ids
    }

    /// Returns what has arrived by now.
    pub(crate) fn now(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}
