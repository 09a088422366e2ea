//! `railbus conformance`: what a backend shows of what it claims.

use super::{BROKEN, OK};
use crate::{args::Conformance, output};
use railbus::{
    backends,
    conformance::{Certificate, Counts, Member, Status, Suite, Target},
    error::{Error, ErrorKind, Result},
    options::Options,
};
use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Tells a member which bus it is on: not in its arguments, which everybody can read.
const URL: &str = "RAILBUS_CONFORMANCE_URL";

pub(super) async fn conformance(args: Conformance, json: bool) -> Result<u8> {
    let program = std::env::current_exe().map_err(|e| {
        let why = "this program can't be found, to be started as a consumer";
        Error::new(ErrorKind::Internal, "conformance", why).because(e)
    })?;
    let url = args.url.clone();
    let target = Target::url(&args.url)?.member(move || {
        let mut command = Command::new(&program);
        command.arg("conformance-member").env(URL, &url);
        command
    });
    let target = match &args.control {
        Some(command) => target.control_by(command),
        None => target,
    };
    let counts = if args.stress { Counts::stress() } else { Counts::short() };
    let suite = Suite::new(target).counts(counts);
    let suite = match args.seed {
        Some(seed) => suite.seed(seed),
        None => suite,
    };
    let suite = if args.case.is_empty() { suite } else { suite.only(args.case.clone()) };
    let seed = suite.seed_used();
    output::note(&format!("seed {seed}: --seed {seed} repeats this run; it may take a minute"));
    let all = if args.case.is_empty() { Suite::names().len() } else { args.case.len() };
    let ended = AtomicUsize::new(0);
    let suite = suite.each(move |case| {
        let n = ended.fetch_add(1, Relaxed) + 1;
        let status = case.status.name().replace('_', " ");
        output::note(&format!("{n} of {all}: {} {status}", case.name));
    });
    let certificate = suite.run().await?;
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
    Ok(if sound { OK } else { BROKEN })
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
