//! Where the tests play: broadcasts and groups, in memory and in a file.

use railbus::{Bus, Retry, backend::LetterFilter, bus::On, predicate::Predicate};
use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::runtime::Handle;

/// A bus, and whether what is subscribed on it has a group.
pub(crate) struct Stage {
    pub(crate) bus: Bus,
    pub(crate) grouped: bool,
    scheme: &'static str,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Opens one on each backend, with and without a group.
    pub(crate) async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for scheme in ["memory:", "memory:?wire=always", "sqlite:"] {
            for grouped in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let url = match scheme {
                    "sqlite:" => format!("sqlite:{}", folder.path().join("events.db").display()),
                    memory => memory.to_owned(),
                };
                let bus = Bus::open(&url).await.unwrap();
                all.push(Self { bus, grouped, scheme, _folder: folder });
            }
        }
        all
    }

    /// Starts a subscription that is tried twice if it has a group.
    pub(crate) fn on(&self, predicate: impl Into<Predicate>) -> On {
        let retry = Retry::attempts(2).backoff_factor(Duration::from_millis(1));
        let on = self.untried(predicate);
        if self.grouped { on.retry(retry) } else { on }
    }

    /// As [`Stage::on`], for one that says itself how often it is tried.
    pub(crate) fn untried(&self, predicate: impl Into<Predicate>) -> On {
        let on = self.bus.on(predicate);
        if self.grouped { on.group("g") } else { on }
    }

    /// As [`Stage::on`], one event at a time if it has a group.
    pub(crate) fn one_by_one(&self, predicate: impl Into<Predicate>) -> On {
        let on = self.on(predicate);
        if self.grouped { on.limit(1) } else { on }
    }

    /// Tells whether handlers run inside publish.
    pub(crate) fn is_inside(&self) -> bool {
        !self.grouped && !self.is_stored()
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.scheme == "sqlite:"
    }

    /// Tells whether a payload is encoded when it is published.
    pub(crate) fn encodes(&self) -> bool {
        self.scheme != "memory:"
    }

    /// Returns the reasons of the dead letters.
    pub(crate) async fn letters(&self) -> Vec<String> {
        let all = LetterFilter::default();
        let letters = self.bus.keeper().unwrap().letters(&all);
        letters.await.unwrap().into_iter().map(|letter| letter.reason).collect()
    }

    /// Closes and drops the bus; then no task is left, and nobody holds what `held` looks at.
    pub(crate) async fn end_within(self, deadline: Duration, held: Weak<()>) {
        let what = self.to_string();
        self.bus.close_within(deadline).await.unwrap();
        drop(self);
        gone(&what, &held).await;
    }

    pub(crate) async fn end(self, held: Weak<()>) {
        self.end_within(Duration::from_secs(30), held).await;
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.grouped { "group" } else { "broadcast" };
        write!(f, "{kind} on {}", self.scheme)
    }
}

/// Waits until no task is left, and nobody holds what `held` looks at.
pub(crate) async fn gone(what: &str, held: &Weak<()>) {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let waiting = async {
        while tasks() > 0 || held.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), waiting).await.is_err() {
        panic!("{what}: {} tasks are left, {} hold it", tasks(), held.strong_count());
    }
}

/// Something a handler captures, and what tells whether it was let go.
pub(crate) fn captured() -> (Arc<()>, Weak<()>) {
    let held = Arc::new(());
    let watched = Arc::downgrade(&held);
    (held, watched)
}
