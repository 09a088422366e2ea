//! `railbus runs`: runs of pipelines listed, shown, cancelled, deleted.

use super::{BROKEN, FAILURES, OK, check, journaled, report::program, store};
use crate::{
    args::{Runs, WhichRuns},
    output,
};
use railbus::{
    Pipeline, Status,
    app::AppSpec,
    backend::{Journal, RunFilter, RunInfo, RunState},
    bus::Bus,
    clock::parse_duration,
    error::{Error, ErrorKind, Result},
    options::Options,
};
use serde_json::json;
use std::{path::Path, time::Duration};

/// How many ids an error lists.
const IDS_SHOWN: usize = 20;

pub(super) async fn runs(args: &Runs, json: bool) -> Result<u8> {
    let url = match args {
        Runs::Resume { app, id } => return resume(app, id, json).await,
        Runs::Ls { url, .. }
        | Runs::Show { url, .. }
        | Runs::Cancel { url, .. }
        | Runs::Prune { url, .. } => url,
    };
    let options = store::options(url)?;
    let bus = store::existing(&options, "runs").await?;
    let done = run(&bus, &options, args, json).await;
    let closed = bus.close().await;
    done.and(closed).map(|()| OK)
}

async fn run(bus: &Bus, options: &Options, args: &Runs, json: bool) -> Result<()> {
    let journal = &*bus.journal()?;
    match args {
        Runs::Ls { filter, after, limit, .. } => {
            let filter = RunFilter { after: after.clone(), limit: *limit, ..wanted(filter)? };
            list(journal, options, &filter, json).await
        }
        Runs::Show { id, .. } => show(journal, options, id, json).await,
        Runs::Cancel { id, .. } => cancel(journal, options, id, json).await,
        Runs::Prune { older_than, filter, dry_run, .. } => {
            let older_than = parse_duration(older_than)?;
            prune(journal, &wanted(filter)?, older_than, *dry_run, json).await
        }
        // It has no URL, and was gone on with before.
        Runs::Resume { .. } => Ok(()),
    }
}

fn wanted(args: &WhichRuns) -> Result<RunFilter> {
    let states = args.status.iter().map(|status| status.trim().parse()).collect::<Result<_>>()?;
    Ok(RunFilter { pipeline: args.pipeline.clone(), states, ..RunFilter::default() })
}

async fn list(
    journal: &dyn Journal,
    options: &Options,
    filter: &RunFilter,
    json: bool,
) -> Result<()> {
    let found = journal.list(filter).await?;
    if json {
        return output::lines(found.iter().map(|run| journaled::document(run).to_string()));
    }
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        output::note("no run matches");
        return Ok(());
    };
    output::line(&journaled::table(&found))?;
    let (count, program) = (output::count(found.len() as u64, "run"), program());
    let first = output::plain(&first.id);
    let store = output::argument(options);
    output::note(&format!("{count} · next: {program} runs show {store} {first}"));
    if filter.limit == Some(found.len() as u64) {
        output::note(&format!("older ones: --after {}", output::plain(&last.id)));
    }
    Ok(())
}

async fn show(journal: &dyn Journal, options: &Options, id: &str, json: bool) -> Result<()> {
    let Some(run) = journal.load(id).await? else {
        return Err(no_run(journal, options, id).await);
    };
    if json {
        return output::line(&journaled::whole(&run)?).map(|_| ());
    }
    output::line(&journaled::page(&run)?)?;
    if run.run.state == RunState::Running {
        let (program, id, store) = (program(), output::plain(id), output::argument(options));
        output::note(&format!("next: {program} runs cancel {store} {id}"));
    }
    Ok(())
}

async fn no_run(journal: &dyn Journal, options: &Options, id: &str) -> Error {
    let few = RunFilter { limit: Some(IDS_SHOWN as u64 + 1), ..RunFilter::default() };
    let some = journal.list(&few).await.unwrap_or_default();
    let ids: Vec<_> = some.iter().take(IDS_SHOWN).map(|run| output::plain(&run.id)).collect();
    let more = if some.len() > IDS_SHOWN { ", .." } else { "" };
    let hint = match ids.is_empty() {
        true => "the store has no runs".into(),
        false => {
            let ids = ids.join(", ");
            format!(
                "there are {ids}{more}; `{} runs ls {options}` lists them",
                program(),
                options = output::argument(options)
            )
        }
    };
    let error = Error::new(ErrorKind::NotFound, "runs", "there is no such run");
    error.with("run", output::plain(id)).hint(hint)
}

async fn cancel(journal: &dyn Journal, options: &Options, id: &str, json: bool) -> Result<()> {
    let was = match journal.cancel(id).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(no_run(journal, options, id).await);
        }
        was => was?,
    };
    let (running, left) = (was == RunState::Running, was == RunState::Left);
    if json {
        let done = json!({ "run": id, "was": was.name(), "asked": running, "cancelled": left });
        return output::line(&done.to_string()).map(|_| ());
    }
    let id = output::plain(id);
    output::note(&match was {
        RunState::Running => {
            format!(
                "run {id} is asked to end: whoever runs it hears it within a third of its lease"
            )
        }
        RunState::Left => format!("run {id} is cancelled"),
        over => format!("nothing to do: run {id} has ended, {over}"),
    });
    Ok(())
}

async fn prune(
    journal: &dyn Journal,
    filter: &RunFilter,
    older_than: Duration,
    dry_run: bool,
    json: bool,
) -> Result<()> {
    if filter.states.contains(&RunState::Running) {
        let why = "a run that is running is never deleted";
        let hint = "cancel it first: railbus runs cancel URL ID";
        return Err(Error::new(ErrorKind::Config, "runs", why).hint(hint));
    }
    let pruned = match dry_run {
        true => {
            let ends =
                |run: &RunInfo| !filter.states.is_empty() || !matches!(run.state, RunState::Left);
            let old = |run: &&RunInfo| run.state != RunState::Running && run.idle_for >= older_than;
            let found = journal.list(filter).await?;
            found.iter().filter(old).filter(|run| ends(run)).count() as u64
        }
        false => journal.prune(filter, older_than).await?,
    };
    if json {
        let done = json!({ "pruned": pruned, "dry_run": dry_run });
        return output::line(&done.to_string()).map(|_| ());
    }
    if pruned == 0 {
        output::note("nothing to do: no run matches");
        return Ok(());
    }
    let verb = if dry_run { "would be deleted" } else { "deleted" };
    output::note(&format!("{} {verb}", output::count(pruned, "run")));
    Ok(())
}

/// Goes on with a run by the app that has its pipeline; fails if the run does.
async fn resume(app: &Path, id: &str, json: bool) -> Result<u8> {
    let spec = match check::load(app) {
        Ok(spec) => spec,
        Err(error) => {
            check::report(&error, app);
            return Ok(BROKEN);
        }
    };
    let bus = store::existing(&spec.bus, "runs").await?;
    let done = go_on(&spec, &bus, id, json).await;
    let closed = bus.close().await;
    let code = done?;
    closed.map(|()| code)
}

async fn go_on(spec: &AppSpec, bus: &Bus, id: &str, json: bool) -> Result<u8> {
    let journal = bus.journal()?;
    let Some(run) = journal.find(id).await? else {
        return Err(no_run(&*journal, &spec.bus, id).await);
    };
    let name = run.run.pipeline;
    let pipelines = spec.build_pipelines()?;
    let Some(pipeline) = pipelines.iter().find(|pipeline| pipeline.name() == name) else {
        let known = pipelines.iter().map(Pipeline::name).collect::<Vec<_>>().join(", ");
        let error = Error::new(ErrorKind::NotFound, "runs", "the app has not the run's pipeline");
        let error = error.with("run", output::plain(id)).with("pipeline", output::plain(&name));
        return Err(error.hint(format!("it has: {known}")));
    };
    let report = pipeline.resume(bus, id)?.await;
    match json {
        true => {
            let steps = report.steps().iter().map(|step| {
                json!({ "name": &*step.name, "status": step.status.name(), "tries": step.tries })
            });
            let error = report.error().map(|error| error.line());
            let document = json!({
                "run": id, "status": report.status().name(), "error": error,
                "steps": steps.collect::<Vec<_>>(),
            });
            output::data(&document.to_string());
        }
        false => output::note(&report.to_string()),
    }
    Ok(match report.status() {
        Status::Success | Status::Stopped => OK,
        _ => FAILURES,
    })
}
