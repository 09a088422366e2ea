//! Subscriptions that are in the table, and not yet open.

use super::{gate::Gate, members::Terms, subscription::Subscription};
use crate::{backend::Broadcast, error::Result};
use std::{collections::HashMap, sync::Arc};

/// A subscription in the table, which is cancelled unless it is kept: who opens it may stop waiting.
pub(super) struct Entered {
    subscription: Subscription,
    terms: Terms,
    gate: Option<Arc<Gate>>,
    kept: bool,
}

impl Entered {
    pub(super) fn new(subscription: Subscription, terms: Terms, gate: Option<Arc<Gate>>) -> Self {
        Self { subscription, terms, gate, kept: false }
    }

    /// Makes the events come: joins the group, or listens to broadcasts.
    pub(super) async fn attach(&self) -> Result<()> {
        self.attach_with(&self.terms).await
    }

    async fn attach_with(&self, terms: &Terms) -> Result<()> {
        let Subscription { entry, bus } = &self.subscription;
        match (&entry.group, &self.gate) {
            (Some(group), Some(gate)) => gate.join(bus, group, terms).await,
            (Some(group), None) => bus.join(group, terms).await,
            (None, _) if bus.capability().broadcast == Broadcast::Live => bus.listen().await,
            (None, _) => Ok(()),
        }
    }

    pub(super) fn keep(mut self) -> Subscription {
        self.kept = true;
        self.subscription.clone()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if !self.kept {
            self.subscription.cancel();
        }
    }
}

/// Makes the events of all of them come: joins each group once, with what all of them ask for.
pub(super) async fn attach_all(all: &[Entered]) -> Result<()> {
    let mut groups: Vec<(&Entered, Terms)> = Vec::new();
    let mut places = HashMap::new();
    for entered in all {
        let Subscription { entry, bus } = &entered.subscription;
        let (Some(group), None) = (&entry.group, &entered.gate) else {
            entered.attach().await?;
            continue;
        };
        let of = (Arc::as_ptr(&bus.0) as usize, group);
        let place = *places.entry(of).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, terms)) => *terms = terms.join(&entered.terms),
            None => groups.push((entered, entered.terms.clone())),
        }
    }
    for (first, terms) in groups {
        first.attach_with(&terms).await?;
    }
    Ok(())
}
