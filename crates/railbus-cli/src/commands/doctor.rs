//! `railbus doctor`: whether the bus that a URL names works, and what may soon stop it.

use super::{BROKEN, OK, backends::summary, environment::slips, store};
use crate::{args::Doctor, output};
use railbus::{
    backend::{GroupInfo, Keeper, LetterFilter},
    backends::{
        self, Row,
        checkup::{Check, Checkup, Status},
    },
    bus::Bus,
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
    options::Options,
};
use rustix::process::{Resource, getrlimit};
use serde_json::json;
use std::time::{Duration, Instant};

/// Fewer open files than this are soon used up by commands and connections.
const FEW_FILES: u64 = 256;

/// A group that is behind and has not fetched for so long has nobody at work.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// At most so many dead letters are read to count them: each brings its event.
const LETTERS_MAX: u64 = 100;

pub(super) async fn doctor(args: Doctor, json: bool) -> Result<u8> {
    let mut checks =
        vec![Check::ok("version", format!("railbus {}", env!("CARGO_PKG_VERSION"))), open_files()];
    let options = match &args.url {
        Some(url) => store::options(url),
        None => Options::from_env(),
    };
    checks.extend(slips().into_iter().map(|slip| {
        Check::warn("environment", slip, "rename it, or unset it if it is another program's")
    }));
    let shown = options.as_ref().ok().map(|options| output::plain(&options.to_string()));
    match options {
        Ok(options) => {
            let from = if args.url.is_some() { "" } else { " (from the environment)" };
            checks.push(Check::ok("options", format!("{options}{from}")));
            look(&options, &mut checks).await;
        }
        Err(error) => checks.push(Check::failed("options", &error)),
    }
    let sound = checks.iter().all(|check| check.status != Status::Fail);
    if json {
        let document = json!({
            "ok": sound, "url": shown, "version": env!("CARGO_PKG_VERSION"),
            "checks": checks.iter().map(document).collect::<Vec<_>>(),
        });
        output::line(&document.to_string())?;
    } else {
        output::lines(checks.iter().map(line))?;
    }
    Ok(if sound { OK } else { BROKEN })
}

fn document(check: &Check) -> serde_json::Value {
    json!({
        "name": check.name, "status": check.status.name(),
        "detail": check.detail, "advice": check.advice,
    })
}

fn line(check: &Check) -> String {
    let advice = check.advice.as_ref().map(|advice| format!(" ({advice})")).unwrap_or_default();
    let (status, name) = (check.status.name(), check.name);
    format!("{status:4}  {name:12}  {}", output::plain(&format!("{}{advice}", check.detail)))
}

/// Tells how many files this process may open.
fn open_files() -> Check {
    let limit = getrlimit(Resource::Nofile);
    let bound = |bound: Option<u64>| bound.map_or_else(|| "unlimited".into(), |n| n.to_string());
    let detail = format!("{} open files, at most {}", bound(limit.current), bound(limit.maximum));
    match limit.current {
        Some(few) if few < FEW_FILES => {
            Check::warn("limits", detail, "raise it, such as by ulimit -n 4096")
        }
        _ => Check::ok("limits", detail),
    }
}

/// Looks at the backend from outside, then opens it if that begins nothing.
async fn look(options: &Options, checks: &mut Vec<Check>) {
    let row = match backends::find(options).and_then(|row| (row.check)(options).map(|()| row)) {
        Ok(row) => row,
        Err(error) => return checks.push(Check::failed("backend", &error)),
    };
    checks.push(Check::ok("backend", format!("{}: {}", row.scheme, summary(row))));
    let outside = from_outside(row, options).await;
    let sound = outside.checks.iter().all(|check| check.status != Status::Fail);
    checks.extend(outside.checks);
    if !sound || outside.begins {
        return;
    }
    let began = Instant::now();
    let opened = match row.capability.durable {
        true => store::existing(options, "doctor").await,
        false => Bus::open(options.clone()).await,
    };
    match opened {
        Ok(bus) => {
            checks.push(Check::ok("open", format!("opened in {:.1?}", began.elapsed())));
            ask(&bus, &output::argument(options), checks).await;
            if let Err(error) = bus.close().await {
                checks.push(Check::failed("close", &error));
            }
        }
        Err(error) => checks.push(Check::failed("open", &error)),
    }
}

async fn from_outside(row: &'static Row, options: &Options) -> Checkup {
    let options = options.clone();
    let looked = tokio::task::spawn_blocking(move || (row.look)(&options)).await;
    looked.unwrap_or_else(|e| {
        let error = Error::new(ErrorKind::Internal, "doctor", "looking panicked").because(e);
        let mut checkup = Checkup::default();
        checkup.checks.push(Check::failed("look", &error));
        checkup
    })
}

/// Asks a bus that is open how it is; `url` is how commands name it.
async fn ask(bus: &Bus, url: &str, checks: &mut Vec<Check>) {
    let began = Instant::now();
    match bus.ping().await {
        Ok(()) => checks.push(Check::ok("ping", format!("answered in {:.1?}", began.elapsed()))),
        Err(error) => return checks.push(Check::failed("ping", &error)),
    }
    let Ok(keeper) = bus.keeper() else { return };
    let known = match keeper.groups().await {
        Ok(known) => known,
        Err(error) => return checks.push(Check::failed("groups", &error)),
    };
    checks.push(groups(&known, url));
    let letters = letters(keeper, &known, url).await;
    checks.push(letters.unwrap_or_else(|e| Check::failed("dead_letters", &e)));
}

fn groups(groups: &[GroupInfo], url: &str) -> Check {
    let lag = groups.iter().map(|group| group.lag).sum::<u64>();
    let count = output::count(groups.len() as u64, "group");
    let detail = format!("{count}, {} behind", output::count(lag, "event"));
    let now = Timestamp::now();
    match groups.iter().find(|g| g.lag > 0 && now.since(g.last_seen) > ABANDONED) {
        Some(group) => {
            let (name, since) = (output::plain(&group.name), output::time(group.last_seen));
            let detail = format!("{detail}; nobody has fetched for {name} since {since}");
            let prune = format!("railbus groups prune {url} {}", output::argument(&name));
            Check::warn("groups", detail, format!("start who handles them, or `{prune}`"))
        }
        None => Check::ok("groups", detail),
    }
}

/// Counts dead letters: those of groups, and of lines that never became an event.
async fn letters(keeper: &dyn Keeper, groups: &[GroupInfo], url: &str) -> Result<Check> {
    let filter = LetterFilter { limit: Some(LETTERS_MAX), ..LetterFilter::default() };
    let read = keeper.letters(&filter).await?.len() as u64;
    let count = read.max(groups.iter().map(|group| group.dead_letters).sum());
    let more = if read < LETTERS_MAX { "" } else { " or more" };
    let detail = format!("{}{more}", output::count(count, "dead letter"));
    Ok(match count {
        0 => Check::ok("dead_letters", detail),
        _ => {
            let look = format!("look at them with `railbus dlq ls {url}`");
            Check::warn("dead_letters", detail, look)
        }
    })
}
