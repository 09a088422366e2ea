//! Runs of a case's own, and two ways to them.

use crate::{
    backend::{Begun, Journal, NewRun, RunEnd, RunInfo, RunLease},
    conformance::{
        finding::{Broken, Checked, ensure},
        stage::Stage,
    },
    error::{Error, ErrorKind, Result},
};
use std::{future::Future, sync::Arc, time::Duration};

/// The graph of all runs here.
pub(super) const SHAPE: &str = "charge -> ship";

/// Who begins a run.
pub(super) const HOLDER: &str = "the holder";

/// Runs of the case's own, and two ways to them.
pub(super) struct Desk<'a> {
    pub(super) stage: &'a Stage,
    pub(super) near: Arc<dyn Journal>,
    pub(super) far: Arc<dyn Journal>,
}

/// Returns the journal of a connection of its own.
pub(super) async fn opened(stage: &Stage) -> Checked<Arc<dyn Journal>> {
    let journal = stage.open().await?.journal();
    journal.ok_or_else(|| Broken::new("it claims a journal, and keeps none"))
}

/// Checks that asking was refused as it should be.
pub(super) fn is<T>(asked: Result<T>, kind: ErrorKind, what: &str) -> Checked {
    let found = asked.err();
    ensure(found.as_ref().map(Error::kind) == Some(kind), || {
        format!("{what} must be refused as {kind:?}, and came to {found:?}")
    })
}

/// Returns what a run that was begun came to, as a word.
pub(super) fn word(begun: &Begun) -> &'static str {
    match begun {
        Begun::New(_) => "new",
        Begun::Resumed(_) => "resumed",
        Begun::Elsewhere(_) => "elsewhere",
        Begun::Finished(_) => "finished",
        Begun::OtherShape { .. } => "of another shape",
    }
}

impl Desk<'_> {
    /// Describes a run of the case's own.
    pub(super) fn run(&self, name: &str, lease: Duration) -> NewRun {
        let mut run = NewRun::new(self.stage.topic(name), self.stage.pipeline("fulfil"), SHAPE);
        (run.version, run.owner, run.lease) = ("v1".into(), HOLDER.into(), lease);
        run.input.set("order", 7);
        run
    }

    /// Waits for an answer, and notes how long it took: leases go on meanwhile.
    pub(super) async fn ask<T>(
        &self,
        what: &str,
        asking: impl Future<Output = Result<T>>,
    ) -> Checked<Result<T>> {
        let begun = self.stage.history.now();
        let answer = self.stage.within(what, asking).await?;
        self.stage.history.took(self.stage.history.now().saturating_sub(begun));
        Ok(answer)
    }

    /// Begins a run that must be the caller's then.
    pub(super) async fn hold(
        &self,
        journal: &Arc<dyn Journal>,
        run: &NewRun,
        expected: &str,
    ) -> Checked<RunLease> {
        let begun = self.ask("a run to begin", journal.begin(run)).await??;
        let came = word(&begun);
        match begun {
            Begun::New(lease) | Begun::Resumed(lease) if came == expected => Ok(lease),
            other => {
                Err(Broken::new(format!("a run must be {expected}, and is {came}: {other:?}")))
            }
        }
    }

    /// Returns how a run stands, as anybody sees it.
    pub(super) async fn look(&self, id: &str) -> Checked<RunInfo> {
        let found = self.ask("a run to be found", self.far.find(id)).await??;
        found.map(|found| found.run).ok_or_else(|| Broken::firm(format!("run {id} is gone")))
    }

    /// Ends a run that nobody needs any more, so that it can be forgotten.
    pub(super) async fn put_away(&self, lease: &RunLease) -> Checked {
        Ok(self.ask("an end", self.near.end(lease, RunEnd::Stopped, None)).await??)
    }
}
