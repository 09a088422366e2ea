//! `railbus dlq`: dead letters listed, shown, handed back, deleted.

use super::{OK, letters, report::program, store};
use crate::{
    args::{Dlq, Letters},
    output,
};
use railbus::{
    backend::{Keeper, Letter, LetterFilter, LetterId},
    bus::Bus,
    error::{Error, ErrorKind, Result},
    options::Options,
};
use serde_json::json;
use std::collections::HashSet;

/// How many letters one transaction hands back or deletes, so that others wait only briefly.
const BATCH: usize = 500;

/// How many ids an error lists.
const IDS_SHOWN: usize = 20;

pub(super) async fn dlq(args: &Dlq, json: bool) -> Result<u8> {
    let (Dlq::Ls { url, .. }
    | Dlq::Show { url, .. }
    | Dlq::Redrive { url, .. }
    | Dlq::Purge { url, .. }) = args;
    let options = store::options(url)?;
    let bus = store::existing(&options, "dlq").await?;
    let done = run(&bus, &options, args, json).await;
    let closed = bus.close().await;
    done.and(closed).map(|()| OK)
}

async fn run(bus: &Bus, options: &Options, args: &Dlq, json: bool) -> Result<()> {
    let keeper = bus.keeper()?;
    match args {
        Dlq::Ls { filter, .. } => list(keeper, options, filter, json).await,
        Dlq::Show { id, .. } => show(keeper, options, id, json).await,
        Dlq::Redrive { filter, dry_run, .. } => redrive(keeper, filter, *dry_run, json).await,
        Dlq::Purge { filter, dry_run, .. } => purge(keeper, filter, *dry_run, json).await,
    }
}

fn filter(args: &Letters) -> LetterFilter {
    let args = args.clone();
    LetterFilter {
        id: args.id.map(LetterId::new),
        event_id: args.event,
        group: args.group,
        subscription: args.subscription,
        event_type: args.event_type,
        topic: args.topic,
        reason: args.reason,
        since: None,
        limit: args.limit,
    }
}

async fn list(keeper: &dyn Keeper, options: &Options, args: &Letters, json: bool) -> Result<()> {
    let found = keeper.letters(&filter(args)).await?;
    if json {
        return output::lines(found.iter().map(|letter| letters::document(letter).to_string()));
    }
    let Some(first) = found.first() else {
        output::note("no dead letter matches");
        return Ok(());
    };
    output::line(&letters::table(&found))?;
    let count = output::count(found.len() as u64, "dead letter");
    let store = output::argument(options);
    output::note(&format!("{count} · next: {} dlq show {store} {}", program(), first.id));
    Ok(())
}

async fn show(keeper: &dyn Keeper, options: &Options, id: &str, json: bool) -> Result<()> {
    let only = LetterFilter { id: Some(LetterId::new(id)), ..LetterFilter::default() };
    let found = keeper.letters(&only).await?;
    let Some(letter) = found.first() else {
        let few = LetterFilter { limit: Some(IDS_SHOWN as u64 + 1), ..LetterFilter::default() };
        return Err(no_letter(id, options, &keeper.letters(&few).await?));
    };
    if json {
        return output::line(&letters::whole(letter)?).map(|_| ());
    }
    output::line(&letters::page(letter)?)?;
    if letter.group.is_some() {
        let (program, store) = (program(), output::argument(options));
        output::note(&format!("next: {program} dlq redrive {store} --id {}", letter.id));
    }
    Ok(())
}

fn no_letter(id: &str, options: &Options, some: &[Letter]) -> Error {
    let ids: Vec<_> = some.iter().take(IDS_SHOWN).map(|letter| letter.id.as_str()).collect();
    let more = if some.len() > IDS_SHOWN { ", .." } else { "" };
    let hint = if ids.is_empty() {
        "the store has no dead letters".into()
    } else {
        let ids = ids.join(", ");
        format!(
            "there are {ids}{more}; `{} dlq ls {options}` lists them",
            program(),
            options = output::argument(options)
        )
    };
    let error = Error::new(ErrorKind::NotFound, "dlq", "there is no such dead letter");
    error.with("id", output::plain(id)).hint(hint)
}

/// What became of the letters that were to be handed back.
struct Redriven {
    matched: usize,
    redriven: u64,
    inputs: usize,
    in_work: usize,
}

async fn redrive(keeper: &dyn Keeper, args: &Letters, dry_run: bool, json: bool) -> Result<()> {
    // The limit counts what can be handed back, else the others could use it up for ever.
    let filter = LetterFilter { limit: None, ..filter(args) };
    let found = keeper.letters(&filter).await?;
    let all = found.len();
    let (back, inputs): (Vec<_>, Vec<_>) = found.into_iter().partition(|l| l.group.is_some());
    let limit = args.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let ids: Vec<LetterId> = back.into_iter().take(limit).map(|letter| letter.id).collect();
    let mut done =
        Redriven { matched: all, redriven: ids.len() as u64, inputs: inputs.len(), in_work: 0 };
    if !dry_run && !ids.is_empty() {
        done.redriven = 0;
        for part in ids.chunks(BATCH) {
            done.redriven += keeper.redrive(part).await?;
        }
        let left = keeper.letters(&filter).await?;
        let left: HashSet<_> = left.into_iter().map(|letter| letter.id).collect();
        done.in_work = ids.iter().filter(|id| left.contains(*id)).count();
    }
    done.say(dry_run, json)
}

impl Redriven {
    fn say(&self, dry_run: bool, json: bool) -> Result<()> {
        let Self { matched, redriven, inputs, in_work } = self;
        if json {
            let done = json!({
                "matched": matched, "redriven": redriven, "dry_run": dry_run,
                "skipped": { "inputs": inputs, "in_work": in_work },
            });
            return output::line(&done.to_string()).map(|_| ());
        }
        if *redriven > 0 {
            let verb = if dry_run { "would be handed back" } else { "handed back" };
            let count = output::count(*redriven, "dead letter");
            output::note(&format!("{count} {verb}, to be tried anew under the event's own id"));
        } else {
            let why = if *matched == 0 { ": no dead letter matches" } else { "" };
            output::note(&format!("nothing to do{why}"));
        }
        if *inputs > 0 {
            let lines = output::count(*inputs as u64, "line");
            output::note(&format!(
                "skipped {lines} of inputs that never became an event: \
                 no subscription failed, so there is none to hand them back to"
            ));
        }
        if *in_work > 0 {
            let count = output::count(*in_work as u64, "dead letter");
            output::note(&format!(
                "skipped {count}: another subscription of the group is at work on the event; \
                 try again when it is through"
            ));
        }
        Ok(())
    }
}

async fn purge(keeper: &dyn Keeper, args: &Letters, dry_run: bool, json: bool) -> Result<()> {
    let found = keeper.letters(&filter(args)).await?;
    let ids: Vec<LetterId> = found.into_iter().map(|letter| letter.id).collect();
    let mut purged = ids.len() as u64;
    if !dry_run {
        purged = 0;
        for part in ids.chunks(BATCH) {
            purged += keeper.purge(part).await?;
        }
    }
    if json {
        let done = json!({ "matched": ids.len(), "purged": purged, "dry_run": dry_run });
        return output::line(&done.to_string()).map(|_| ());
    }
    if purged == 0 {
        output::note("nothing to do: no dead letter matches");
        return Ok(());
    }
    let verb = if dry_run { "would be deleted" } else { "deleted" };
    output::note(&format!("{} {verb}", output::count(purged, "dead letter")));
    Ok(())
}
