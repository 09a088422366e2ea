//! What an event may carry, and what is too much.

use super::publish::{arrives, same};
use crate::{
    backend::{Backend, Broadcast},
    conformance::{
        finding::{Checked, Finding, ensure},
        refusal::no_groups,
        seat::Ear,
        stage::{LONG_LEASE, Stage, literal},
    },
    error::{Error, ErrorKind},
    event::{Event, EventBuilder},
    id::new_id,
    payload::RawPayload,
    predicate,
};
use std::sync::Arc;

/// The largest payload that is tried, in bytes, and the largest where there is no limit.
const TRIED_MAX: usize = 64 << 20;
const UNLIMITED: usize = 4 << 20;

/// Metadata of 64 keys, with every character there is, and the trace's own, come as they were sent;
/// more than is claimed is refused.
pub(super) async fn metadata(stage: &Stage) -> Checked<Finding> {
    let topic = stage.topic("metadata");
    let plain = || Event::new("metadata").topic(&*topic);
    let most = stage.capability.metadata_max;
    let many = |count: usize| {
        (0..count).fold(plain(), |event: EventBuilder, n| {
            event.metadata(format!("key-{n}"), format!("value {n}"))
        })
    };
    let ascii: String = (0..128_u8).map(char::from).collect();
    let trace = plain()
        .metadata("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .metadata("tracestate", "a=b,c=d")
        .metadata("baggage", "user=1;p=2");
    let odd = plain()
        .metadata("schlüssel 🦀", "wert\u{7f}\u{80}\u{ffff}\u{10ffff}")
        .metadata("long", "ß".repeat(4096))
        .metadata("ascii", &*ascii)
        .metadata("empty", "")
        .metadata("type", "not the event's")
        .metadata("a.b:c/d-e_f", "{\"no\": \"json\"}");
    let events = [many(64.min(most)).payload(1), trace.payload(2), odd.payload(3)];
    let fits = |event: &&Event| event.metadata().len() <= most;
    let events: Vec<_> = events.iter().filter(fits).cloned().collect();
    carried(stage, &topic, &events).await?;
    if most < usize::MAX {
        let backend = stage.open().await?;
        let error = refused(stage, &backend, &many(most + 1).payload(4)).await?;
        let typed = [ErrorKind::TooLarge, ErrorKind::Unsupported].contains(&error.kind());
        ensure(typed, || format!("{} entries gave {error:?}", most + 1))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
    }
    Ok(Finding::Passed(None))
}

/// Payloads from nothing to the largest there may be come as they were sent; one byte more is a
/// typed error, and published before or after it is the rest.
pub(super) async fn payload_sizes(stage: &Stage) -> Checked<Finding> {
    let topic = stage.topic("sizes");
    let most = stage.capability.payload_max;
    let largest = if most == usize::MAX { UNLIMITED } else { most.min(TRIED_MAX) };
    let event = |payload: RawPayload| Event::new("sized").topic(&*topic).raw_payload(payload);
    let mut events = vec![event(RawPayload::null()), event(RawPayload::of(7))];
    for size in [64 << 10, largest] {
        if size <= most {
            events.push(event(of_size(size)));
        }
    }
    carried(stage, &topic, &events).await?;
    if most <= TRIED_MAX {
        let backend = stage.open().await?;
        let seat = match stage.capability.groups {
            true => {
                Some(stage.join(&backend, &stage.group("refused"), &topic, stage.lease()).await?)
            }
            false => None,
        };
        let error = refused(stage, &backend, &event(of_size(most + 1))).await?;
        ensure(error.kind() == ErrorKind::TooLarge && !error.is_retryable(), || {
            format!("a payload of one byte more than the largest gave {error:?}")
        })?;
        let after = [event(RawPayload::of("after it"))];
        stage.publish(&backend, &after).await?;
        if let Some(seat) = seat {
            // What was refused is not stored, not even in part.
            arrives(&seat, &after).await?;
            seat.nothing_else().await?;
        }
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
    }
    Ok(Finding::Passed(Some(format!("up to {largest} bytes"))))
}

/// Returns a payload whose JSON text has so many bytes.
fn of_size(bytes: usize) -> RawPayload {
    RawPayload::of("x".repeat(bytes.saturating_sub(2)))
}

async fn refused(stage: &Stage, backend: &Arc<dyn Backend>, event: &Event) -> Checked<Error> {
    let batch = [event.clone().into()];
    let published = stage.within("a refusal", backend.publish(&batch)).await?.pop();
    let error = published.and_then(Result::err);
    error.ok_or_else(|| {
        crate::conformance::finding::Broken::new("more than is claimed was confirmed")
    })
}

/// Sends events to a listener and to a group.
async fn carried(stage: &Stage, topic: &str, events: &[Event]) -> Checked {
    if stage.capability.broadcast != Broadcast::None {
        let (near, far) = stage.pair().await?;
        let wanted = predicate::topic(&literal(topic));
        let mut ear = Ear::open(&far, wanted, stage.patience).await?;
        for event in events {
            stage.within("a publish", near.publish(event.clone())).await??;
            same(event, &ear.next().await?).map_err(|broken| broken.within("broadcast"))?;
        }
    }
    if stage.capability.groups {
        let (near, far) = (stage.open().await?, stage.open().await?);
        let seat = stage.join(&far, &stage.group("carried"), topic, LONG_LEASE).await?;
        // Under ids of their own, since the listener's may be known by now.
        let anew = |event: &Event| event.told_by(&new_id(), event.source(), event.timestamp());
        let events: Vec<_> = events.iter().map(anew).collect();
        for event in &events {
            stage.publish(&near, std::slice::from_ref(event)).await?;
        }
        arrives(&seat, &events).await?;
    }
    Ok(())
}
