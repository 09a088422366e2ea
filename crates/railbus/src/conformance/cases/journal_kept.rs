//! How runs are listed, and which are pruned.

use super::journal_desk::Desk;
use crate::{
    backend::{Journal, RunEnd, RunFilter, RunState, Told},
    conformance::{
        finding::{Checked, ensure},
        stage::{LONG_LEASE, literal},
    },
};
use std::{sync::Arc, time::Duration};

/// Runs are listed newest first, as far as they are asked for; pruned is what has ended, and what was
/// left only if that is asked for; what runs stays.
pub(super) async fn kept(desk: &Desk<'_>) -> Checked {
    let pipeline = desk.stage.pipeline("kept");
    let mut leases = Vec::new();
    for name in ["kept 1", "kept 2", "kept 3"] {
        let mut run = desk.run(name, LONG_LEASE);
        run.pipeline.clone_from(&pipeline);
        leases.push(desk.hold(&desk.near, &run, "new").await?);
    }
    let [ended, left, running] = &leases[..] else { return Ok(()) };
    desk.ask("an end", desk.near.end(ended, RunEnd::Success, None)).await??;
    desk.ask("a release", desk.near.release(left)).await??;
    let of = |states: &[RunState]| RunFilter {
        pipeline: Some(literal(&pipeline)),
        states: states.to_vec(),
        ..RunFilter::default()
    };
    let lists = async |filter: RunFilter, expected: &[&str]| {
        let found = desk.ask("a list", desk.far.list(&filter)).await??;
        let found: Vec<_> = found.iter().map(|run| run.id.as_str()).collect();
        ensure(found == expected, || format!("{filter:?} gave {found:?}, not {expected:?}"))
    };
    let [ended, left, running] = [ended, left, running].map(|lease| lease.run.as_str());
    lists(of(&[]), &[running, left, ended]).await?;
    lists(of(&[RunState::Left]), &[left]).await?;
    lists(of(&[RunState::Running, RunState::Ended(RunEnd::Success)]), &[running, ended]).await?;
    lists(RunFilter { id: Some(left.into()), ..of(&[]) }, &[left]).await?;
    lists(RunFilter { limit: Some(2), ..of(&[]) }, &[running, left]).await?;
    lists(RunFilter { after: Some(running.into()), limit: Some(1), ..of(&[]) }, &[left]).await?;

    let hour = Duration::from_secs(3600);
    prunes(desk, of(&[]), hour, 0).await?;
    prunes(desk, of(&[]), Duration::ZERO, 1).await?;
    lists(of(&[]), &[running, left]).await?;
    let gone = desk.ask("a run that was pruned", desk.far.find(ended)).await??;
    ensure(gone.is_none(), || format!("what was pruned is there: {gone:?}"))?;
    prunes(desk, of(&[RunState::Left, RunState::Running]), Duration::ZERO, 1).await?;
    lists(of(&[]), &[running]).await?;
    let told = desk.ask("a renewal", desk.near.renew(&leases[2])).await??;
    ensure(told == Told::GoOn, || format!("a run that stays is told {told:?}"))?;
    // What was forgotten is a new run.
    let mut again = desk.run("kept 1", LONG_LEASE);
    again.pipeline.clone_from(&pipeline);
    let again = desk.hold(&desk.far, &again, "new").await?;
    desk.put_away(&again).await?;
    desk.put_away(&leases[2]).await
}

async fn prunes(desk: &Desk<'_>, filter: RunFilter, older_than: Duration, count: u64) -> Checked {
    let journal: &Arc<dyn Journal> = &desk.far;
    let pruned = desk.ask("runs to be pruned", journal.prune(&filter, older_than)).await??;
    ensure(pruned == count, || {
        format!("of what is {older_than:?} old, {filter:?} pruned {pruned} runs, not {count}")
    })
}
