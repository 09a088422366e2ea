//! What becomes of an event that is not worked on here: it goes back, to whoever comes next.

use super::{leases::Held, shared::Shared};
use crate::{
    backend::{Receipt, Settle, Verdict},
    context,
    error::{ErrorKind, Result},
    event::Event,
};
use std::time::Duration;

/// Gives back an event that was not begun, so that nothing of it counts.
pub(super) fn release(receipt: Receipt) -> Settle {
    Settle::new(receipt, Verdict::Release { delay: Duration::ZERO })
}

/// Gives an event back after a wait, in which nobody has it.
pub(super) async fn leave_to_others(shared: &Shared, settle: Settle, wait: Duration, held: Held) {
    wait_here(shared, wait).await;
    drop(held);
    tell(shared, None, shared.settler.settle(settle).await);
}

/// Waits with the lease kept; false if the group drains meanwhile.
pub(super) async fn wait_here(shared: &Shared, wait: Duration) -> bool {
    let mut draining = shared.draining.subscribe();
    tokio::select! {
        biased;
        () = tokio::time::sleep(wait) => true,
        _ = draining.wait_for(|draining| *draining) => false,
    }
}

/// Tells of a settlement that failed; false if it did.
pub(super) fn tell(shared: &Shared, event: Option<&Event>, result: Result<()>) -> bool {
    let Err(error) = result else { return true };
    let group = &*shared.group;
    let say = || match error.kind() {
        ErrorKind::Stale => tracing::warn!(group, "the lease ran out: the event comes again"),
        _ => tracing::error!(group, %error, "not settled: the event comes again"),
    };
    match event {
        Some(event) => context::span(event).in_scope(say),
        None => say(),
    }
    false
}
