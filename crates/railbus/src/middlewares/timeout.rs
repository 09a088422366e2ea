//! A bound on how long a handler may take.

use crate::{
    delivery::{Delivery, Outcome},
    error::{Error, ErrorKind},
    middleware::{Middleware, Next},
};
use async_trait::async_trait;
use std::time::Duration;

/// Fails a delivery whose handler takes longer than allowed; the handler is dropped at its next
/// await. One that never awaits can't be stopped.
///
/// # Examples
/// ```
/// use railbus::{Bus, middlewares::Timeout};
/// use std::{future::pending, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let (bus, soon) = (Bus::new(), Duration::from_millis(1));
/// bus.on("tick").layer(Timeout::new(soon)).run(|| async { pending::<()>().await }).await?;
/// let report = bus.publish(railbus::Event::new("tick")).await?;
/// assert_eq!(report.failures.len(), 1);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timeout(Duration);

impl Timeout {
    /// Allows a handler this long, each try anew.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self(limit)
    }
}

#[async_trait]
impl Middleware for Timeout {
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
        let running = tokio::time::timeout(self.0, next.run(delivery)).await;
        running.unwrap_or_else(|_| {
            let why = format!("the handler took longer than {:?}", self.0);
            Outcome::Failed(Error::new(ErrorKind::Timeout, "handler", why).into())
        })
    }
}
