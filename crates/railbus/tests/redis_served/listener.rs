//! A listener to a stream, as a backend's source gives it.
#![allow(dead_code)]

use railbus::{
    backend::{Backend, Leased, Order, Source, Start, Subscribe},
    predicate::Interest,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::timeout;

pub(crate) const LATE: Duration = Duration::from_secs(60);

pub(crate) async fn listen(backend: &Arc<dyn Backend>) -> Arc<dyn Source> {
    let request = Subscribe {
        group: None,
        interest: Interest::all(),
        start: Start::Newest,
        lease: LATE,
        order: Order::Any,
    };
    backend.subscribe(request).await.unwrap()
}

pub(crate) async fn until<T>(what: impl Future<Output = T>) -> T {
    timeout(LATE, what).await.expect("late")
}

/// Fetches until so many have come, whatever fails in between.
pub(crate) async fn take(source: &Arc<dyn Source>, count: usize) -> Vec<Leased> {
    let mut all = Vec::new();
    let taking = async {
        while all.len() < count {
            all.extend(source.fetch(256).await.unwrap_or_default());
        }
    };
    until(taking).await;
    all
}

pub(crate) fn numbers(all: &[Leased]) -> Vec<u32> {
    all.iter().map(|one| one.event.as_ref().unwrap().payload::<u32>().unwrap()).collect()
}

/// Tells whether a gap was told since it was last asked.
pub(crate) async fn gap(source: &Arc<dyn Source>) -> bool {
    timeout(Duration::from_millis(50), source.gap()).await.is_ok()
}
