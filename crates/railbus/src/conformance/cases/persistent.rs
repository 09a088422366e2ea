//! Publishing that goes on until it is confirmed.

use crate::{
    backend::Backend,
    conformance::finding::{Broken, Checked, ensure},
    error::{Error, Result},
    event::Event,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// How many each goes on with at a time as long as anything fails.
const MORE: usize = 4;

/// How soon what was not confirmed is published again.
pub(super) const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Repeats what fails with an error that may pass.
pub(super) async fn again_and_again<T, F: Future<Output = Result<T>>>(
    publish: impl Fn() -> F,
) -> Checked {
    loop {
        match publish().await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retryable() => tokio::time::sleep(AGAIN_AFTER).await,
            Err(error) => return Err(Broken::from(error).within("what must pass by trying again")),
        }
    }
}

/// How far those who publish are, and whether they may stop.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) confirmed: AtomicUsize,
    pub(super) doubted: AtomicUsize,
    pub(super) is_over: AtomicBool,
}

/// Publishes all, each until it is confirmed, and then some more as long as anything fails; returns
/// the ids.
pub(super) async fn publish_all(
    backend: Arc<dyn Backend>,
    events: Vec<Event>,
    batch: usize,
    progress: Arc<Progress>,
) -> Checked<Vec<String>> {
    let mut published = Vec::new();
    for part in events.chunks(batch) {
        publish_part(&*backend, part, &progress).await?;
        published.extend(part.iter().map(|event| event.id().to_owned()));
    }
    let topic = events.first().map(|event| event.topic().to_owned()).unwrap_or_default();
    while !progress.is_over.load(SeqCst) {
        let more: Vec<_> = (0..batch.min(MORE))
            .map(|n| Event::new("conformance.more").topic(&*topic).payload(n))
            .collect();
        publish_part(&*backend, &more, &progress).await?;
        published.extend(more.iter().map(|event| event.id().to_owned()));
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    Ok(published)
}

async fn publish_part(backend: &dyn Backend, part: &[Event], progress: &Progress) -> Checked {
    let mut left = part.to_vec();
    while !left.is_empty() {
        let out: Vec<_> = left.iter().cloned().map(Into::into).collect();
        let results = backend.publish(&out).await;
        let (got, of) = (results.len(), left.len());
        ensure(got == of, || format!("a batch of {of} events gave {got} results"))?;
        let mut failed: Option<Error> = None;
        let each = left.into_iter().zip(results);
        left = each
            .filter_map(|(event, result)| {
                failed = Some(result.err()?);
                Some(event)
            })
            .collect();
        progress.confirmed.fetch_add(of - left.len(), SeqCst);
        progress.doubted.fetch_add(left.len(), SeqCst);
        match failed {
            Some(error) if !error.is_retryable() => {
                return Err(Broken::from(error).within("what must pass by trying again"));
            }
            Some(_) => tokio::time::sleep(AGAIN_AFTER).await,
            None => {}
        }
    }
    Ok(())
}
