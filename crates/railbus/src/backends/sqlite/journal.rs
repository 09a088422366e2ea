//! The journal of runs, handed to the writer and the reader.

use super::{
    found, reader::Reader, runs, settings::CAPABILITY, timeline::Timeline, trash, writer::Weight,
    writer::Writer,
};
use crate::{
    backend::{
        Begun, Journal, Journaled, NewRun, Record, Recorded, RunEnd, RunError, RunFilter, RunInfo,
        RunLease, RunState, Told,
    },
    error::Result,
    journal::{check_run, no_run, ready, write_error},
};
use async_trait::async_trait;
use rusqlite::Transaction;
use std::time::Duration;

/// The journal of an open store. It does not keep the store open.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) timeline: Timeline,
}

impl Runs {
    /// Does what the store may refuse without SQLite being at fault.
    async fn ask<T: Send + 'static>(
        &self,
        weight: Weight,
        work: impl FnMut(&Transaction<'_>) -> runs::Answer<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.call(weight, work).await?
    }

    /// Reads a run for whoever did not get it; none if it was deleted meanwhile.
    async fn info(&self, id: &str) -> Result<Option<RunInfo>> {
        let (id, now) = (id.to_owned(), self.timeline.now());
        self.reader.call(move |c| found::info(c, &id, now)).await
    }

    async fn shaped(&self, id: &str) -> Result<Option<(RunInfo, String)>> {
        let (id, now) = (id.to_owned(), self.timeline.now());
        self.reader.call(move |c| found::shaped(c, &id, now)).await
    }
}

#[async_trait]
impl Journal for Runs {
    async fn begin(&self, run: &NewRun) -> Result<Begun> {
        let input = check_run(run, CAPABILITY.payload_max)?;
        loop {
            let (timeline, run, input) = (self.timeline.clone(), run.clone(), input.clone());
            let id = run.id.clone();
            let begin = move |t: &Transaction<'_>| runs::begin(t, &timeline, &run, &input);
            // What can't be got is read by the other thread; who deletes it meanwhile makes way.
            let found = match self.writer.call(Weight::Durable, begin).await? {
                runs::Begins::New(lease) => return Ok(Begun::New(lease)),
                runs::Begins::Resumed(lease) => return Ok(Begun::Resumed(lease)),
                runs::Begins::Elsewhere => self.info(&id).await?.map(Begun::Elsewhere),
                runs::Begins::Finished => self.info(&id).await?.map(Begun::Finished),
                runs::Begins::OtherShape => {
                    let shaped = self.shaped(&id).await?;
                    shaped.map(|(run, shape)| Begun::OtherShape { run, shape })
                }
            };
            if let Some(begun) = found {
                return Ok(begun);
            }
        }
    }

    async fn record(&self, lease: &RunLease, records: &[Record]) -> Result<Told> {
        let ready = ready(&lease.run, records, CAPABILITY.payload_max)?;
        let (timeline, lease) = (self.timeline.clone(), lease.clone());
        let record = move |t: &Transaction<'_>| runs::record(t, &timeline, &lease, &ready);
        self.ask(Weight::Durable, record).await
    }

    async fn renew(&self, lease: &RunLease) -> Result<Told> {
        let (timeline, lease) = (self.timeline.clone(), lease.clone());
        self.ask(Weight::Light, move |t| runs::renew(t, &timeline, &lease)).await
    }

    async fn release(&self, lease: &RunLease) -> Result<()> {
        let (timeline, lease) = (self.timeline.clone(), lease.clone());
        self.writer.call(Weight::Light, move |t| runs::release(t, &timeline, &lease)).await
    }

    async fn end(&self, lease: &RunLease, how: RunEnd, error: Option<RunError>) -> Result<()> {
        let error = error.as_ref().map(write_error).transpose()?;
        let (timeline, lease) = (self.timeline.clone(), lease.clone());
        let end = move |t: &Transaction<'_>| runs::end(t, &timeline, &lease, how, error.as_deref());
        self.ask(Weight::Durable, end).await
    }

    async fn cancel(&self, id: &str) -> Result<RunState> {
        let (timeline, run) = (self.timeline.clone(), id.to_owned());
        let cancel = move |t: &Transaction<'_>| runs::cancel(t, &timeline, &run);
        let found = self.writer.call(Weight::Durable, cancel).await?;
        found.ok_or_else(|| no_run(id))
    }

    async fn find(&self, id: &str) -> Result<Option<Journaled>> {
        let (id, now) = (id.to_owned(), self.timeline.now());
        self.reader.call(move |c| found::find(c, &id, now)).await
    }

    async fn records(&self, id: &str, after: u64, limit: usize) -> Result<Vec<Recorded>> {
        let id = id.to_owned();
        self.reader.call(move |c| found::records(c, &id, after, limit)).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Vec<RunInfo>> {
        let (wanted, now) = (found::Wanted::from(filter), self.timeline.now());
        let limit = filter.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let before = match &filter.after {
            None => None,
            Some(id) => {
                let run = id.clone();
                let number = self.reader.call(move |c| found::number_of(c, &run)).await?;
                Some(number.ok_or_else(|| no_run(id))?)
            }
        };
        self.reader.call(move |c| found::list(c, &wanted, before, limit, now)).await
    }

    async fn prune(&self, filter: &RunFilter, older_than: Duration) -> Result<u64> {
        let mut filter = filter.clone();
        if filter.states.is_empty() {
            filter.states.extend(RunEnd::ALL.iter().map(|how| RunState::Ended(*how)));
        }
        let wanted = found::Wanted::from(&filter);
        let (mut gone, mut place) = (0, Some(0));
        let now = self.timeline.now();
        let cutoff = now.before(older_than);
        while let Some(from) = place {
            let most = filter.limit.unwrap_or(u64::MAX).saturating_sub(gone);
            if most == 0 {
                break;
            }
            let wanted = wanted.clone();
            let prune =
                move |t: &Transaction<'_>| trash::prune(t, &wanted, now, cutoff, from, most);
            let pruned = self.writer.call(Weight::Durable, prune).await?;
            (gone, place) = (gone + pruned.runs, pruned.place);
        }
        while self.writer.call(Weight::Light, trash::empty).await? {}
        Ok(gone)
    }
}
