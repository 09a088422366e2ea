//! What keeps a consumer from fetching before all its handlers are in the table.

use super::{members::Terms, open::Bus};
use crate::error::Result;
use std::collections::HashMap;
use tokio::sync::Mutex;

/// Keeps the groups of a consumer's subscriptions until it starts: what was fetched before the
/// table is whole would find nobody who wants it.
#[derive(Debug)]
pub(super) struct Gate(Mutex<Option<HashMap<String, Terms>>>);

impl Gate {
    pub(super) fn closed() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    /// Joins the group, or notes that it is to be joined.
    pub(super) async fn join(&self, bus: &Bus, group: &str, terms: &Terms) -> Result<()> {
        let mut kept = self.0.lock().await;
        let Some(groups) = &mut *kept else { return bus.join(group, terms).await };
        let joined = groups.get(group).map_or_else(|| terms.clone(), |before| before.join(terms));
        bus.check_filling(group, &joined)?;
        groups.insert(group.to_owned(), joined);
        Ok(())
    }

    /// Opens it: joins all groups that were kept. Again is fine.
    pub(super) async fn open(&self, bus: &Bus) -> Result<()> {
        let mut kept = self.0.lock().await;
        forget_cancelled(&mut kept, bus);
        for (group, terms) in kept.iter().flatten() {
            bus.join(group, terms).await?;
        }
        *kept = None;
        Ok(())
    }

    /// Tells whether nothing waits behind it, so that opening it would begin nothing.
    pub(super) async fn is_empty(&self, bus: &Bus) -> bool {
        let mut kept = self.0.lock().await;
        forget_cancelled(&mut kept, bus);
        kept.as_ref().is_some_and(HashMap::is_empty)
    }
}

/// Leaves out groups of which no subscription is left.
fn forget_cancelled(kept: &mut Option<HashMap<String, Terms>>, bus: &Bus) {
    if let Some(groups) = kept {
        groups.retain(|group, _| bus.0.table.first_of(group).is_some());
    }
}
