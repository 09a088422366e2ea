//! `railbus run`: an app from start to summary.

use super::{
    BROKEN, FAILURES, OK, check,
    environment::slips,
    progress::Live,
    report::{Report, url},
    signals::stop_on_signal,
    steps::Steps,
};
use crate::{args::Run, output};
use railbus::{
    app::{App, AppSpec, Ended, InputSpec},
    error::{Error, ErrorKind, Result},
};

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
    let report = Report::begin(&args.app, &spec);
    let app = match args.progress {
        true => App::open_observed(&spec).await?,
        false => App::open(&spec).await?,
    };
    say_start(&spec, args.until_idle);
    let bus = app.bus().clone();
    let steps = match args.progress {
        true => Some(Steps::watch(&bus, &spec).await?),
        false => None,
    };
    let live = (!args.progress).then(|| Live::start(bus.clone()));
    let finished = app.run(args.until_idle, stop).await;
    drop(live);
    if let Some(steps) = steps {
        steps.end();
    }
    let (ended, summary) = finished?;
    let letters = report.letters(&bus, &summary).await;
    bus.close().await?;
    // Where it broke before anything came, the error says why.
    if !(summary.is_empty() && matches!(ended, Ended::Broken(_))) {
        report.say(&summary, &letters);
    }
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
    let endless = spec.inputs.iter().find(|input| input.is_endless());
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
    for remark in slips().into_iter().chain(check::past(spec)).chain(check::mistaken(spec)) {
        output::note(&remark);
    }
    if spec.inputs.iter().any(|input| matches!(input, InputSpec::Ndjson(i) if i.path.is_none())) {
        output::note(
            "stdin can't resume: lines that were read but not published are lost if this is killed",
        );
    }
}
