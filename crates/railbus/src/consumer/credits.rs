//! Who is asked before a fetch, all together.

use super::shared::Shared;
use crate::credit::Credit;
use smallvec::SmallVec;
use std::{fmt, sync::Arc};

/// All who say how much a group may fetch: mostly nobody.
#[derive(Clone, Default)]
pub(crate) struct Credits(Vec<Arc<dyn Credit>>);

impl Credits {
    pub(crate) fn add(&mut self, credit: Arc<dyn Credit>) {
        if !self.0.iter().any(|known| Arc::ptr_eq(known, &credit)) {
            self.0.push(credit);
        }
    }

    /// Returns those of both.
    pub(crate) fn join(&self, other: &Self) -> Self {
        let mut both = self.clone();
        other.0.iter().cloned().for_each(|credit| both.add(credit));
        both
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes from each what the ones before let through, at most `most`; none if the member stops
    /// meanwhile.
    pub(super) async fn take(&self, shared: &Shared, most: usize) -> Option<Taken<'_>> {
        let mut taken = Taken { credits: self, each: SmallVec::new(), most, came: 0 };
        if self.0.is_empty() {
            return Some(taken);
        }
        let mut draining = shared.draining.subscribe();
        for credit in &self.0 {
            let count = tokio::select! {
                biased;
                _ = draining.wait_for(|draining| *draining) => return None,
                count = credit.take(taken.most) => count.clamp(1, taken.most),
            };
            taken.each.push(count);
            taken.most = count;
        }
        Some(taken)
    }
}

/// The same ones, in whichever order they were added.
impl PartialEq for Credits {
    fn eq(&self, other: &Self) -> bool {
        let has = |one: &Arc<dyn Credit>| other.0.iter().any(|known| Arc::ptr_eq(known, one));
        self.0.len() == other.0.len() && self.0.iter().all(has)
    }
}

impl fmt::Debug for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credits({})", self.0.len())
    }
}

/// What was taken for one fetch; each is told what came of it, however the fetch ends.
pub(super) struct Taken<'a> {
    credits: &'a Credits,
    each: SmallVec<[usize; 1]>,
    most: usize,
    came: usize,
}

impl Taken<'_> {
    /// Returns how many events may be fetched.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Notes how many came.
    pub(super) fn came(&mut self, count: usize) {
        self.came = count;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for (credit, taken) in self.credits.0.iter().zip(&self.each) {
            credit.came(*taken, self.came);
        }
    }
}
