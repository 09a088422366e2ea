//! `railbus conformance`: what a backend shows of what it claims.

use super::{BROKEN, OK, signals::stop_or_break};
use crate::{args::Conformance, output};
use railbus::{
    backends,
    clock::parse_duration,
    conformance::{Certificate, Counts, Member, Status, Suite, Target},
    error::{Error, ErrorKind, Result},
    options::Options,
};
use serde_json::json;
use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// The least that may be waited for what must happen.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// Tells a member which bus it is on: not in its arguments, which everybody can read.
const URL: &str = "RAILBUS_CONFORMANCE_URL";

pub(super) async fn conformance(args: Conformance, json: bool) -> Result<u8> {
    // Without a URL only the list is asked for.
    let Some(url) = &args.url else { return list(json) };
    let suite = suite(&args, url)?;
    let seed = suite.seed_used();
    output::note(&format!("seed {seed}: --seed {seed} repeats this run; it may take a minute"));
    let all = if args.case.is_empty() { Suite::names().len() } else { args.case.len() };
    let ended = AtomicUsize::new(0);
    let suite = suite.each(move |case| {
        let n = ended.fetch_add(1, Relaxed) + 1;
        let status = case.status.name().replace('_', " ");
        output::note(&format!("{n} of {all}: {} {status}", case.name));
    });
    let stop = stop_or_break("putting back what the cases have changed", "it may be left changed")?;
    let mut stopped = stop.clone();
    let certificate = suite
        .until(async move {
            // Who would tell is there for as long as the program is.
            let _ = stopped.wait_for(|stop| *stop).await;
        })
        .run()
        .await?;
    if json {
        output::line(&certificate.to_json().to_string())?;
    } else {
        show(&certificate)?;
    }
    // Of some cases all may be refused, which is as it should be.
    let sound = match args.case.is_empty() {
        true => certificate.is_conformant(),
        false => certificate.count(Status::Failed) == 0,
    };
    Ok(if sound && !*stop.borrow() { OK } else { BROKEN })
}

fn suite(args: &Conformance, url: &str) -> Result<Suite> {
    let program = std::env::current_exe().map_err(|e| {
        let why = "this program can't be found, to be started as a consumer";
        Error::new(ErrorKind::Internal, "conformance", why).because(e)
    })?;
    let of_member = url.to_owned();
    let target = Target::url(url)?.member(move || {
        let mut command = Command::new(&program);
        command.arg("conformance-member").env(URL, &of_member);
        command
    });
    let target = match &args.control {
        Some(command) => target.control_by(command),
        None => target,
    };
    let counts = if args.stress { Counts::stress() } else { Counts::short() };
    let mut suite = Suite::new(target).counts(counts);
    if let Some(seed) = args.seed {
        suite = suite.seed(seed);
    }
    if let Some(patience) = &args.patience {
        suite = suite.patience(patience_of(patience)?);
    }
    Ok(if args.case.is_empty() { suite } else { suite.only(args.case.clone()) })
}

fn patience_of(text: &str) -> Result<Duration> {
    let patience = parse_duration(text)?;
    if patience < PATIENCE_MIN {
        let why = format!("a patience of {patience:?} is over before any server has answered");
        return Err(Error::new(ErrorKind::Config, "conformance", why).hint("such as 30s or 2m"));
    }
    Ok(patience)
}

/// Prints what cases there are, and what each needs.
fn list(json: bool) -> Result<u8> {
    let cases = Suite::names().into_iter().map(|name| (name, Suite::needs(name)));
    if json {
        let case = |(name, needs)| json!({ "name": name, "needs": needs });
        let cases: Vec<_> = cases.map(case).collect();
        output::line(&json!({ "cases": cases }).to_string())?;
    } else {
        let rows = cases.map(|(name, needs)| vec![name.into(), needs.join(", ")]);
        output::line(&output::table(&["case", "needs"], rows.collect()))?;
    }
    Ok(OK)
}

fn show(certificate: &Certificate) -> Result<()> {
    let rows = certificate.cases.iter().map(|case| {
        let why = case.why.as_deref().unwrap_or_default();
        let elapsed = format!("{:.1} s", case.elapsed.as_secs_f64());
        vec![case.name.into(), case.status.name().replace('_', " "), elapsed, why.into()]
    });
    output::line(&output::table(&["case", "status", "took", "why"], rows.collect()))?;
    let count = |status: Status| certificate.count(status);
    output::note(&format!(
        "{}: {} passed, {} failed, {} refused, {} not run",
        certificate.backend,
        count(Status::Passed),
        count(Status::Failed),
        count(Status::Refused),
        count(Status::NotRun),
    ));
    Ok(())
}

/// Is a consumer process of the suite, until it is killed.
pub(super) async fn member() -> Result<u8> {
    let missing = || {
        let why = "this is a part of `railbus conformance`, which starts it by itself";
        Error::new(ErrorKind::Config, "conformance", why).hint("run `railbus conformance URL`")
    };
    let member = Member::from_env()?.ok_or_else(missing)?;
    let url = std::env::var(URL).map_err(|_| missing())?;
    let backend = backends::open(Options::parse(&url)?).await?;
    member.run(backend, std::io::stdout()).await?;
    Ok(OK)
}
