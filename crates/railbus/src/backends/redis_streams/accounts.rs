//! Accounts: what became of a run's events, and how far inputs were read.
//!
//! What goes well is not written down by anybody: it is what a group wanted and has not open. So
//! counting reads the stream. What is trimmed before a run ends is counted first, by whoever runs it.

use super::{
    keys::Keys,
    lag,
    lookup::newest,
    script::{RUNS, odd, text},
    tally,
};
use crate::{
    backend::{Accounts, Position, RunMark, Tally},
    backends::redis::link::Link,
    error::Result,
    predicate::Interest,
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;

/// How often whoever runs a run says that it lives, and counts what is to be trimmed. It is waited for
/// for a minute.
const BEAT_EVERY: Duration = Duration::from_secs(2);

/// How soon it is looked again whether groups are through.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The accounts of a stream, as one backend keeps them.
#[derive(Debug)]
pub(super) struct Books {
    link: Link,
    keys: Arc<Keys>,
    // Who keeps the runs that this backend began.
    beating: Mutex<HashMap<i64, AbortOnDropHandle<()>>>,
}

impl Books {
    pub(super) fn new(link: &Link, keys: &Arc<Keys>) -> Self {
        Self { link: link.clone(), keys: Arc::clone(keys), beating: Mutex::default() }
    }

    fn beating(&self) -> std::sync::MutexGuard<'_, HashMap<i64, AbortOnDropHandle<()>>> {
        self.beating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        self.beating().clear();
    }
}

/// Says that a run lives, and counts what is to be trimmed, for ever.
async fn beat(link: Link, keys: Arc<Keys>, run: RunMark) {
    loop {
        tokio::time::sleep(BEAT_EVERY).await;
        let beaten = async {
            let said = RUNS.run(&link, &keys, "accounts", |command| {
                command.arg("beat").arg(run.run);
            });
            match text(said.await?).parse() {
                Ok(upto) => tally::count_upto(&link, &keys, run, upto).await,
                Err(()) => Ok(()),
            }
        };
        if let Err(error) = beaten.await {
            tracing::warn!(%error, run = run.run, "what is to be trimmed could not be counted");
        }
    }
}

#[async_trait]
impl Accounts for Books {
    async fn begin(&self, groups: &[(String, Interest)]) -> Result<RunMark> {
        let whole = tally::write(groups);
        let said = RUNS.run(&self.link, &self.keys, "accounts", |command| {
            command.arg("begin").arg(&whole);
            for (name, _) in groups {
                command.arg(name);
            }
        });
        let run: i64 = text(said.await?).parse().map_err(|_| odd("accounts"))?;
        let mark = RunMark { run };
        let beating = tokio::spawn(beat(self.link.clone(), Arc::clone(&self.keys), mark));
        self.beating().insert(run, AbortOnDropHandle::new(beating));
        Ok(mark)
    }

    async fn end(&self, run: RunMark) -> Result<()> {
        self.beating().remove(&run.run);
        let said = RUNS.run(&self.link, &self.keys, "accounts", |command| {
            command.arg("end").arg(run.run);
        });
        said.await.map(drop)
    }

    async fn position(&self, input: &str) -> Result<Option<Position>> {
        let mut command = redis::cmd("HGET");
        command.arg(format!("{}inputs", self.keys.base)).arg(input);
        let said = self.link.ask::<Option<String>>("accounts", &command).await?;
        let read = |text: String| {
            let (offset, fingerprint) = text.split_once(' ')?;
            Some(Position { offset: offset.parse().ok()?, fingerprint: fingerprint.parse().ok()? })
        };
        said.map(|text| read(text).ok_or_else(|| odd("accounts"))).transpose()
    }

    async fn tally(&self, run: RunMark) -> Result<Tally> {
        tally::tally(&self.link, &self.keys, run).await
    }

    async fn is_idle(&self, groups: &[(String, Interest)]) -> Result<bool> {
        // What one group's handler publishes to another, which was looked at before, moves the end.
        let end = newest(&self.link, &self.keys).await?;
        let mut looks = lag::Looks::default();
        for (group, interest) in groups {
            if !looks.is_settled(&self.link, &self.keys, group, interest).await? {
                return Ok(false);
            }
        }
        Ok(newest(&self.link, &self.keys).await? == end)
    }

    async fn changed(&self) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
