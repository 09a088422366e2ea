//! Publishing: to the queue, or to that of each group that wants it; ten of whoever publishes at a time.

use super::{
    message::{in_order, whole_seconds, write},
    queue::Parcel,
    service::{Service, closed},
};
use crate::{
    backend::Outgoing,
    backends::gather::{Gather, Limits},
    error::{Error, ErrorKind, Result},
};
use futures_util::future::join_all;
use std::{collections::BTreeMap, sync::Arc};

/// How much goes together: sixteen requests' worth, beside which one more may be on its way.
const LIMITS: Limits = Limits { items: 160, weight: 4 << 20, flights: 2, callers: usize::MAX };

/// An event on its way out.
#[derive(Debug)]
pub(super) struct Ready {
    event_type: String,
    topic: String,
    parcel: Parcel,
}

impl Ready {
    /// Checks and writes one event.
    ///
    /// # Errors
    /// Returns an error if it is malformed, too large, or to be held back for too long.
    pub(super) fn make(service: &Service, outgoing: &Outgoing) -> Result<Self> {
        let (settings, capability) = (&service.settings, &service.capability);
        let event = &outgoing.event;
        let parcel =
            write(outgoing, capability.payload_max, settings.format, &settings.attributes)?;
        let mut parcel = if settings.place.is_fifo() { in_order(parcel, event) } else { parcel };
        if let Some(delay) = event.delay() {
            let Some(most) = capability.publish_delay_max else {
                let why = "a FIFO queue holds back no single event";
                return Err(Error::new(ErrorKind::Unsupported, "publish", why)
                    .with("event", event.id())
                    .hint("publish it to a standard queue, or set a delay for the whole queue"));
            };
            if delay > most {
                let why = format!("sqs holds back for at most {most:?} what is published");
                return Err(Error::new(ErrorKind::Unsupported, "publish", why)
                    .with("event", event.id())
                    .hint("publish it later, or on a backend that holds back for longer"));
            }
            parcel.delay = i32::try_from(whole_seconds(delay)).ok();
        }
        Ok(Self { event_type: event.event_type().into(), topic: event.topic().into(), parcel })
    }

    fn weight(&self) -> usize {
        self.parcel.weight()
    }
}

/// Makes the line in which those who publish wait.
pub(super) fn line(service: &Arc<Service>) -> Gather<Ready> {
    let service = Arc::downgrade(service);
    Gather::new(LIMITS, Ready::weight, move |items| {
        let service = service.upgrade();
        async move {
            match service {
                Some(service) => send(&service, items).await,
                None => vec![Err(closed()); items.len()],
            }
        }
    })
}

async fn send(service: &Service, items: Vec<Ready>) -> Vec<Result<()>> {
    if !service.settings.place.is_grouped() {
        let parcels: Vec<_> = items.into_iter().map(|item| item.parcel).collect();
        return match service.queue("") {
            Ok(queue) => queue.send(&parcels).await,
            Err(error) => vec![Err(error); parcels.len()],
        };
    }
    if let Err(error) = service.look(false).await {
        return vec![Err(error); items.len()];
    }
    let mut by_group: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (n, item) in items.iter().enumerate() {
        for group in service.directory.wanting(&item.event_type, &item.topic) {
            by_group.entry(group).or_default().push(n);
        }
    }
    let sending = by_group.iter().map(async |(group, wanted)| {
        let parcels: Vec<_> = wanted.iter().map(|n| items[*n].parcel.clone()).collect();
        match service.queue(group) {
            Ok(queue) => queue.send(&parcels).await,
            Err(error) => vec![Err(error); wanted.len()],
        }
    });
    let sent = join_all(sending).await;
    let mut results = vec![Ok(()); items.len()];
    for ((group, wanted), sent) in by_group.iter().zip(sent) {
        for (n, came) in wanted.iter().zip(sent) {
            let Err(error) = came else { continue };
            // A group that was pruned since it was looked for wants nothing any more.
            if error.kind() == ErrorKind::NotFound && service.directory.forget_found(group) {
                continue;
            }
            results[*n] = Err(error.with("group", group));
        }
    }
    results
}
