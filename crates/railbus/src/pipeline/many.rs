//! A step for each item of a collection.

use super::{
    inner::{BREATH, Inner, Time, came},
    lane::given_up,
    once::{Along, Around, Came, One},
    parts::{Each, How, Limits, Sub, Work},
    report::{Inside, ItemsReport, RunReport, said},
};
use crate::{
    error::{Error, ErrorKind},
    payload::RawPayload,
    step::{Exception, Failure, Flow, Items, Joined, StepError, Store, split},
    task,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

/// How many of the items that did not succeed a report tells one by one.
const FAILURES_MAX: usize = 100;

/// How many items are worked on at once, if nothing else is said. Asking takes longer than most steps.
static AT_ONCE: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, Into::into));

impl One<'_> {
    /// Tells whether it takes its items from what is used up, so that another try has none.
    pub(super) fn is_used_up(&self, around: Around<'_>) -> bool {
        let Work::Sub(Sub { how: How::Each(each), .. }) = &self.def().work else { return false };
        let items = around.store.value(around.bindings.key(&each.items));
        items.and_then(RawPayload::given::<Items>).is_some_and(|items| items.are_gone())
    }
}

impl Inner<'_> {
    pub(super) async fn each(
        &self,
        one: &One<'_>,
        each: &Each,
        around: Around<'_>,
        along: &mut Along,
    ) -> Came {
        let wrong = |error: Error| {
            let error = error.with("items", &each.items);
            Came::Not(StepError::Exception(Exception::new("input", error)))
        };
        let key = around.bindings.key(&each.items);
        let Some(collection) = around.store.value(key) else {
            let why = format!("there is no `{key}` to take items of");
            return wrong(Error::new(ErrorKind::NotFound, "each", why));
        };
        let items = match split(collection) {
            Ok(items) => items,
            Err(error) => return wrong(error),
        };
        let limits = if each.is_fail_fast { self.limits.apart() } else { self.limits.clone() };
        let inner = Inner { limits: &limits, ..*self };
        let given = one.given(self.pipeline, around);
        let mut all = Many::new(each.keeps);
        inner.run_items(each, Source::of(items), given, &mut all).await;
        let came = all.came(each);
        let value = all.values.take().map(|values| RawPayload::of(Joined(values)));
        along.inside = Some(Inside::Items(Arc::new(all.report)));
        match (self.limits.over().filter(|_| all.is_cut), came) {
            (Some(reason), _) => Came::Cut(reason),
            (None, None) => Came::Went(Flow::Next(value)),
            (None, Some(error)) => Came::Not(error),
        }
    }

    /// Tells whether a run that is kept, and is not given up itself, had begun with an item.
    fn began(&self, place: usize) -> bool {
        let log = self.going.log.filter(|log| log.limits.over().is_none());
        let item = format!("{}{}/", self.name, Time::Item(place));
        log.is_some_and(|log| log.knows(self.going.prefix, &item))
    }

    /// Runs the pipeline for each item, so many at once.
    async fn run_items(&self, each: &Each, mut source: Source, given: Store, all: &mut Many) {
        let at_once = each.at_once.unwrap_or(*AT_ONCE);
        let item = each.item.as_deref().unwrap_or_default();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < at_once
                && (self.limits.over().is_none() || self.began(source.begun))
            {
                let Some((place, value)) = source.next() else { break };
                let mut store = given.clone();
                store.keep(item, value);
                running.push(async move { (place, self.run(store, Time::Item(place)).await) });
            }
            let Some((place, report)) = running.next().await else { break };
            all.add(place, report, self.limits);
            if let Some(cancel) = &self.limits.cancel
                && each.is_fail_fast
                && each.evaluation.impossible(count(all.report.failed), source.total())
            {
                cancel.cancel();
            }
            if all.count().is_multiple_of(BREATH) {
                task::breathe().await;
            }
        }
        all.broke = source.broke;
        all.is_cut |= !source.is_through();
    }
}

/// What makes the items: the program's, which may panic.
struct Source {
    // None: it ended or panicked, and is not asked again.
    items: Option<Box<dyn Iterator<Item = RawPayload> + Send>>,
    begun: usize,
    broke: bool,
}

impl Source {
    fn of(items: Box<dyn Iterator<Item = RawPayload> + Send>) -> Self {
        Self { items: Some(items), begun: 0, broke: false }
    }

    /// Returns the next item, with its place.
    fn next(&mut self) -> Option<(usize, RawPayload)> {
        let items = self.items.as_mut()?;
        match catch_unwind(AssertUnwindSafe(|| items.next())) {
            Ok(Some(item)) => {
                self.begun += 1;
                return Some((self.begun - 1, item));
            }
            Ok(None) => {}
            Err(panic) => {
                task::let_go(panic);
                self.broke = true;
            }
        }
        task::let_go(self.items.take());
        None
    }

    /// Returns how many may still come, if that is known.
    fn left(&self) -> Option<usize> {
        let Some(items) = &self.items else { return Some(0) };
        let hint = catch_unwind(AssertUnwindSafe(|| items.size_hint().1));
        hint.map_err(task::let_go).unwrap_or_default()
    }

    /// Returns how many there are in all, at most.
    fn total(&self) -> usize {
        self.left().map_or(usize::MAX, |left| self.begun.saturating_add(left))
    }

    fn is_through(&self) -> bool {
        self.left() == Some(0)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        task::let_go(self.items.take());
    }
}

/// What became of many items.
struct Many {
    report: ItemsReport,
    // By their places.
    values: Option<Vec<Option<RawPayload>>>,
    // The worst that became of one, the first in the order of the items.
    worst: Option<(usize, StepError)>,
    // Whether what makes them panicked.
    broke: bool,
    // Whether some were given up, or not begun.
    is_cut: bool,
}

impl Many {
    fn new(keeps: bool) -> Self {
        let (report, values) = (ItemsReport::default(), keeps.then(Vec::new));
        Self { report, values, worst: None, broke: false, is_cut: false }
    }

    fn count(&self) -> u64 {
        self.report.succeeded + self.report.failed
    }

    /// Takes in what became of an item within these limits.
    fn add(&mut self, place: usize, mut report: RunReport, limits: &Limits) {
        let came = came(&mut report);
        if let Some(values) = &mut self.values {
            if values.len() <= place {
                values.resize(place + 1, None);
            }
            values[place] = report.last_value().filter(|_| matches!(came, Came::Went(_))).cloned();
        }
        let (error, is_cut) = match came {
            Came::Not(error) => (error, false),
            // By a limit of its own, if these are not used up.
            Came::Cut(reason) => (given_up(reason), limits.over().is_some()),
            _ => {
                self.report.succeeded += 1;
                return;
            }
        };
        self.report.failed += 1;
        if self.report.failures.len() < FAILURES_MAX {
            self.report.failures.push((place as u64, said(&error)));
        }
        self.is_cut |= is_cut;
        let rank =
            |place: usize, error: &StepError| (matches!(error, StepError::Failure(_)), place);
        let worst = self.worst.as_ref();
        // What others were given up for is no reason why the whole failed.
        if !is_cut && worst.is_none_or(|(at, known)| rank(place, &error) < rank(*at, known)) {
            self.worst = Some((place, error));
        }
    }

    /// Returns why the whole failed, if it did.
    fn came(&mut self, each: &Each) -> Option<StepError> {
        self.report.failures.sort_by_key(|(place, _)| *place);
        if self.broke {
            let why = "what makes the items panicked";
            return Some(StepError::Exception(Exception::new("panic", why)));
        }
        if each.evaluation.succeeds(count(self.report.succeeded), count(self.count())) {
            return None;
        }
        let (failed, total) = (self.report.failed, self.count());
        let why = |place| format!("{failed} of {total} items did not succeed; item {place}");
        Some(match self.worst.take() {
            None if total == 0 => StepError::Failure(Failure::new("there are no items")),
            None => {
                let (well, wanted) = (self.report.succeeded, each.evaluation);
                let why = format!("{well} of {total} items succeeded, which is not {wanted}");
                StepError::Failure(Failure::new(why))
            }
            Some((place, StepError::Failure(failure))) => {
                StepError::Failure(Failure::new(why(place)).value(failure.found()).because(failure))
            }
            Some((place, StepError::Exception(Exception { kind, error }))) => {
                let error = Error::new(ErrorKind::Handler, "each", why(place)).because(error);
                StepError::Exception(Exception::new(kind, error))
            }
        })
    }
}

fn count(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
