//! The second oracle of the conformance suite, as it is: a backend that writes down what happens to
//! another one, and the rules for what it wrote.

use crate::backend::{Backend, Receipt, Verdict};
use std::{collections::BTreeMap, sync::Arc};

#[allow(dead_code)]
#[path = "../../src/conformance/crash.rs"]
mod crash;
#[allow(dead_code)]
#[path = "../../src/conformance/finding.rs"]
mod finding;
#[allow(dead_code)]
#[path = "../../src/conformance/history.rs"]
mod history;
#[allow(dead_code)]
#[path = "../../src/conformance/recorder.rs"]
mod recorder;
#[allow(dead_code)]
#[path = "../../src/conformance/rules.rs"]
mod rules;

use history::{History, What};

/// Watches connections to one backend.
pub(crate) struct Oracle(History);

/// What became of one event in one group.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    pub(crate) delivered: usize,
    pub(crate) acks: usize,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self(History::new())
    }

    /// Returns the connection, watched.
    pub(crate) fn watch(&self, inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
        Arc::new(recorder::Recorded::new(inner, self.0.clone()))
    }

    /// Checks what the capability of memory claims.
    pub(crate) fn check(&self) {
        let checked = rules::check(&self.0, &railbus::backends::memory::CAPABILITY);
        if let Err(broken) = checked {
            panic!("{broken}");
        }
    }

    /// Returns what became of each event in each group.
    pub(crate) fn fates(&self) -> BTreeMap<(String, String), Fate> {
        let (mut fates, mut places) = (BTreeMap::<_, Fate>::new(), BTreeMap::new());
        for record in self.0.records() {
            match record.what {
                What::Delivered(delivered) => {
                    let place = (delivered.group.unwrap_or_default(), delivered.event);
                    let Receipt { place: slot, fence, .. } = delivered.receipt;
                    places.insert((delivered.member, slot, fence), place.clone());
                    fates.entry(place).or_default().delivered += 1;
                }
                What::Settled { member, receipt, verdict: Verdict::Ack } => {
                    if let Some(place) = places.get(&(member, receipt.place, receipt.fence)) {
                        fates.entry(place.clone()).or_default().acks += 1;
                    }
                }
                _ => {}
            }
        }
        fates
    }
}
