//! `railbus run`: an app from start to summary.

use super::{BROKEN, FAILURES, OK, check, progress::Live, signals::stop_on_signal};
use crate::{args::Run, output};
use railbus::{
    app::{App, AppSpec, Ended, InputSpec, Summary},
    backend::{Letter, LetterFilter, Tally},
    bus::Bus,
    error::{Error, ErrorKind, Result},
};

/// How many dead letters the summary shows.
const LETTERS_SHOWN: usize = 10;

pub(super) async fn run(args: Run, json: bool) -> Result<u8> {
    let spec = match check::load(&args.app) {
        Ok(spec) => spec,
        Err(e) => {
            check::report(&e, &args.app);
            return Ok(BROKEN);
        }
    };
    refuse_endless(&spec, args.until_idle)?;
    // From here on a signal drains instead of ending the program.
    let stop = stop_on_signal("finishing what has begun")?;
    let app = App::open(&spec).await?;
    say_start(&spec, args.until_idle);
    let bus = app.bus().clone();
    let live = Live::start(bus.clone());
    let finished = app.run(args.until_idle, stop).await;
    drop(live);
    let (ended, summary) = finished?;
    let letters = letters(&bus, &spec, &summary).await;
    bus.close().await?;
    say_end(&args, &spec, &summary, &letters);
    if json {
        let line = serde_json::to_string(&summary).map_err(|e| {
            Error::new(ErrorKind::Internal, "run", "the summary is not encodable").because(e)
        })?;
        output::data(&line);
    }
    match ended {
        Ended::Broken(error) => Err(error),
        _ if summary.has_failures() => Ok(FAILURES),
        _ => Ok(OK),
    }
}

fn refuse_endless(spec: &AppSpec, until_idle: bool) -> Result<()> {
    let endless = spec.inputs.iter().find(|input| matches!(input, InputSpec::Interval(_)));
    match endless {
        Some(input) if until_idle => {
            let why = "--until-idle needs inputs that end";
            Err(Error::new(ErrorKind::Config, "run", why)
                .with("endless input", input.name())
                .hint("leave --until-idle out and end the run with Ctrl-C, or remove the input"))
        }
        _ => Ok(()),
    }
}

fn say_start(spec: &AppSpec, until_idle: bool) {
    let inputs: Vec<_> = spec.inputs.iter().map(InputSpec::name).collect();
    let from = if inputs.is_empty() { "no inputs".into() } else { inputs.join(", ") };
    let until = if until_idle { "until idle" } else { "until Ctrl-C" };
    output::note(&format!("running on {} · {from} · {until}", url(spec)));
    if spec.inputs.iter().any(|input| matches!(input, InputSpec::Ndjson(i) if i.path.is_none())) {
        output::note(
            "stdin can't resume: lines that were read but not published are lost if this is killed",
        );
    }
}

/// Returns the dead letters of this app, latest last.
async fn letters(bus: &Bus, spec: &AppSpec, summary: &Summary) -> Vec<Letter> {
    let Ok(keeper) = bus.keeper() else { return Vec::new() };
    if summary.events.dead_lettered == 0 {
        return Vec::new();
    }
    let mine = |letter: &Letter| match &letter.group {
        None => true,
        Some(group) => spec.subscriptions.iter().any(|on| on.group.as_ref() == Some(group)),
    };
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap_or_default();
    letters.into_iter().filter(mine).collect()
}

fn say_end(args: &Run, spec: &AppSpec, summary: &Summary, letters: &[Letter]) {
    if summary.is_empty() {
        say_nothing_new(spec);
        return;
    }
    output::note(&counts(summary));
    for letter in letters.iter().take(LETTERS_SHOWN) {
        output::note(&format!("  dead letter {}: {}", letter.id, describe(letter)));
    }
    if letters.len() > LETTERS_SHOWN {
        output::note(&format!("  and {} more", letters.len() - LETTERS_SHOWN));
    }
    if let Some(first) = letters.first() {
        let (program, url) = (program(), url(spec));
        let app = args.app.display();
        output::note("next:");
        output::note(&format!("  {program} dlq show {url} {}", first.id));
        output::note(&format!("  {program} dlq redrive {url} && {program} run {app} --until-idle"));
    }
}

fn say_nothing_new(spec: &AppSpec) {
    if spec.inputs.is_empty() {
        output::note("nothing is new: no event came while it ran");
        return;
    }
    output::note("nothing is new: every event of the inputs was handled by an earlier run");
    if spec.bus.backend() == "sqlite" {
        let file = output::path(spec.bus.address());
        output::note(&format!(
            "to start over, delete the database: rm {file} {file}-wal {file}-shm"
        ));
    }
}

/// Says in one line what failed, what it was about and why.
fn describe(letter: &Letter) -> String {
    let tries = match letter.attempts {
        0 => "never tried".into(),
        1 => "1 try".into(),
        n => format!("{n} tries"),
    };
    let reason = output::one_line(&letter.reason, 150);
    // A line that never became an event tells of itself in its reason.
    if letter.group.is_none() {
        return reason;
    }
    let payload = letter.event.as_ref().and_then(|e| e.raw_payload().text().ok());
    let about = output::one_line(&String::from_utf8_lossy(payload.map_or(b"", |p| p)), 40);
    let (kind, name) = (&letter.event_type, &letter.subscription);
    format!("{kind} {about}\n    {name}, {tries}: {reason}")
}

/// Returns the bus as it is typed from here.
fn url(spec: &AppSpec) -> String {
    spec.bus.clone().with_address(output::path(spec.bus.address())).to_string()
}

/// Returns how the person at the terminal calls this program.
pub(super) fn program() -> String {
    let name = std::env::args().next().unwrap_or_default();
    if name.contains("target/") { name } else { "railbus".into() }
}

fn counts(summary: &Summary) -> String {
    let Tally { published, carried, succeeded, retried, failed, dead_lettered, unmatched, .. } =
        &summary.events;
    let mut parts = vec![format!("{published} events published")];
    if *carried > 0 {
        parts.push(format!("{carried} carried over"));
    }
    parts.push(format!("{succeeded} succeeded"));
    for (count, what) in [
        (retried, "retried"),
        (failed, "failed"),
        (dead_lettered, "in the dead letters"),
        (unmatched, "wanted by nobody"),
    ] {
        if *count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{} · {:.1} s", parts.join(" · "), summary.elapsed)
}
