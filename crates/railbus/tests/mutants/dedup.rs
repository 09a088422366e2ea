//! A store that takes an id once within a window, which none of this crate's does.

use async_trait::async_trait;
use railbus::{
    backend::{Backend, Capability, Keeper, Outgoing, Source, Subscribe},
    conformance::{CaseReport, Suite, Target},
    error::Result,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// What the store claims.
const WINDOW: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Once {
    inner: Arc<dyn Backend>,
    capability: Capability,
    // For how long it takes an id once, whatever it claims.
    window: Duration,
    seen: Arc<Mutex<HashMap<String, Instant>>>,
}

/// Runs the case that is there for a window, on a store that keeps it for so long.
pub(crate) async fn dedup_window(window: Duration) -> CaseReport {
    let seen = Arc::<Mutex<HashMap<String, Instant>>>::default();
    let target = Target::url("memory:").unwrap().around(move |inner| {
        let mut capability = inner.capability().clone();
        capability.dedup = Some(WINDOW);
        Arc::new(Once { inner, capability, window, seen: Arc::clone(&seen) })
    });
    let suite = Suite::new(target).patience(Duration::from_secs(1)).only(["dedup window"]);
    suite.run().await.unwrap().cases.remove(0)
}

impl Once {
    fn is_new(&self, outgoing: &Outgoing) -> bool {
        let (mut seen, now) = (self.seen.lock().unwrap(), Instant::now());
        let id = outgoing.event.id();
        let known = seen.get(id).is_some_and(|at| now - *at < self.window);
        if !known {
            seen.insert(id.into(), now);
        }
        !known
    }
}

#[async_trait]
impl Backend for Once {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let new: Vec<_> = batch.iter().filter(|o| self.is_new(o)).cloned().collect();
        if new.is_empty() {
            return vec![Ok(()); batch.len()];
        }
        let mut results = self.inner.publish(&new).await;
        results.resize(batch.len(), Ok(()));
        results
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        self.inner.subscribe(request).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.inner.close(deadline).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.inner.keeper()
    }
}
