//! Looking at a server from outside: what `doctor` tells of it.

use super::{api::Api, link::Link, settings::Settings};
use crate::{
    backends::checkup::{Check, Checkup},
    error::{Error, ErrorKind, Result},
    options::Options,
};
use std::{thread, time::Instant};
use tokio::runtime::Builder;

/// Above this share of its limit a stream may soon take no more.
const FULL: u64 = 90;

/// Looks at the server; nothing is changed. May block.
pub fn look(options: &Options) -> Checkup {
    let mut checkup = Checkup::default();
    let settings = match Settings::read(options) {
        Ok(settings) => settings,
        Err(error) => {
            checkup.checks.push(Check::failed("settings", &error));
            return checkup;
        }
    };
    let encrypted =
        if settings.server.tls.is_on { "encrypted" } else { "encrypted if the server asks" };
    checkup.checks.push(Check::ok("settings", format!("{}, {encrypted}", settings.server)));
    // On a thread of its own: whoever asks may be inside a runtime.
    let looking = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| {
            Error::new(ErrorKind::Internal, "look at nats", "there is no runtime").because(e)
        })?;
        Ok(runtime.block_on(ask(&settings)))
    });
    let died = |_| Err(Error::new(ErrorKind::Internal, "look at nats", "looking panicked"));
    match looking.join().unwrap_or_else(died) {
        Ok((checks, begins)) => {
            checkup.checks.extend(checks);
            checkup.begins = begins;
        }
        Err(error) => checkup.checks.push(Check::failed("server", &error)),
    }
    checkup
}

async fn ask(settings: &Settings) -> (Vec<Check>, bool) {
    let began = Instant::now();
    let link = match Link::open(&settings.server).await {
        Ok(link) => link,
        Err(error) => return (vec![Check::failed("server", &error)], false),
    };
    let (info, took) = (link.client().server_info(), began.elapsed());
    let detail = format!("NATS {}, answered in {took:?}", info.version);
    let mut checks = vec![Check::ok("server", detail)];
    let mut begins = false;
    if settings.jetstream {
        let api = Api::new(link.clone(), &settings.api);
        match kept(&api, &settings.stream).await {
            Ok((check, is_there)) => {
                checks.push(check);
                begins = !is_there;
            }
            Err(error) => checks.push(Check::failed("stream", &error)),
        }
    }
    link.close().await;
    (checks, begins)
}

async fn kept(api: &Api, name: &str) -> Result<(Check, bool)> {
    let Some(info) = api.stream("look at nats", name).await? else {
        return Ok((Check::ok("stream", format!("{name} is not there yet")), false));
    };
    let config = &info.config;
    let text = |key: &str| config[key].as_str().unwrap_or("?").to_owned();
    let (events, bytes) = (info.state.messages, info.state.bytes);
    let copies = config["num_replicas"].as_u64().unwrap_or(1);
    let detail = format!(
        "{name}: {events} events, {} MiB, in {}, {copies} {}",
        bytes >> 20,
        text("storage"),
        if copies == 1 { "copy" } else { "copies" },
    );
    let most = config["max_bytes"].as_i64().and_then(|most| u64::try_from(most).ok());
    let is_full = most.is_some_and(|most| most > 0 && bytes.saturating_mul(100) / most >= FULL);
    let check = if is_full {
        Check::warn("stream", detail, "raise max_bytes: a full stream takes no more")
    } else if config["storage"] == "memory" {
        let advice = "make it anew with storage=file: what is in memory goes with the server";
        Check::warn("stream", detail, advice)
    } else {
        Check::ok("stream", detail)
    };
    Ok((check, true))
}
