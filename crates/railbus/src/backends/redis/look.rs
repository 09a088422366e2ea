//! Looking at a server from outside: what `doctor` tells of it.

use super::{
    client::{client, connect, version},
    fault::fault,
    settings::{SETTINGS, Server},
};
use crate::{
    backends::checkup::{Check, Checkup},
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use redis::aio::MultiplexedConnection;
use std::{collections::HashMap, thread, time::Instant};
use tokio::runtime::Builder;

/// Above this share of its memory a server may soon take no more.
const FULL: u64 = 90;

/// Looks at the server; nothing is changed. May block.
pub fn look(options: &Options) -> Checkup {
    look_with(options, SETTINGS, false)
}

/// Looks at the server of a backend with these settings, and at what keeps its events, if it does.
pub(in crate::backends) fn look_with(
    options: &Options,
    settings: &[Setting],
    durable: bool,
) -> Checkup {
    let mut checkup = Checkup::default();
    let server = match options.check(settings).and_then(|()| Server::read(options)) {
        Ok(server) => server,
        Err(error) => {
            checkup.checks.push(Check::failed("settings", &error));
            return checkup;
        }
    };
    let encrypted = if server.tls.is_some() { "encrypted" } else { "not encrypted" };
    checkup.checks.push(Check::ok("settings", format!("{server}, {encrypted}")));
    // On a thread of its own: whoever asks may be inside a runtime.
    let looking = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| {
            Error::new(ErrorKind::Internal, "look at redis", "there is no runtime").because(e)
        })?;
        Ok(runtime.block_on(ask(&server, durable)))
    });
    let died = |_| Err(Error::new(ErrorKind::Internal, "look at redis", "looking panicked"));
    match looking.join().unwrap_or_else(died) {
        Ok(checks) => checkup.checks.extend(checks),
        Err(error) => checkup.checks.push(Check::failed("server", &error)),
    }
    checkup
}

async fn ask(server: &Server, durable: bool) -> Vec<Check> {
    let began = Instant::now();
    let connected = async {
        let mut connection = connect(&client(server)?, server, server.timeout, None).await?;
        let version = version(&mut connection, server).await?;
        Ok((connection, version))
    };
    let (mut connection, version) = match connected.await {
        Ok(connected) => connected,
        Err(error) => return vec![Check::failed("server", &error)],
    };
    let took = began.elapsed();
    let mut checks = vec![Check::ok("server", format!("Redis {version}, answered in {took:?}"))];
    let memory = info(&mut connection, server, "memory").await.map(|said| memory(&said));
    checks.push(memory.unwrap_or_else(|error| Check::failed("memory", &error)));
    if durable {
        let said = info(&mut connection, server, "persistence").await;
        let policy = policy(&mut connection).await;
        let kept = said.map(|said| kept(&said, policy.as_deref()));
        checks.push(kept.unwrap_or_else(|error| Check::failed("persistence", &error)));
    }
    checks
}

async fn info(
    connection: &mut MultiplexedConnection,
    server: &Server,
    section: &str,
) -> Result<String> {
    let said = redis::cmd("INFO").arg(section).query_async(connection).await;
    said.map_err(|e| fault("look at redis", server, e))
}

fn value<'a>(said: &'a str, key: &str) -> Option<&'a str> {
    said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

fn memory(said: &str) -> Check {
    let number = |key| value(said, key).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (used, most) = (number("used_memory"), number("maxmemory"));
    let policy = value(said, "maxmemory_policy").unwrap_or("noeviction");
    let detail = match most {
        0 => format!("{} MiB used, no limit", used >> 20),
        most => format!("{} of {} MiB used, {policy}", used >> 20, most >> 20),
    };
    if most > 0 && policy.starts_with("allkeys") {
        let advice = "set the server's maxmemory-policy to noeviction: it throws events away";
        return Check::warn("memory", detail, advice);
    }
    match most > 0 && used.saturating_mul(100) / most >= FULL {
        true => Check::warn("memory", detail, "raise maxmemory: a full server takes no more"),
        false => Check::ok("memory", detail),
    }
}

/// Asks when the server's log goes to the disk; `None` where it may not be asked, as with many hosts.
async fn policy(connection: &mut MultiplexedConnection) -> Option<String> {
    let asked = redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await;
    let said: HashMap<String, String> = asked.ok()?;
    said.into_values().next()
}

fn kept(said: &str, policy: Option<&str>) -> Check {
    if value(said, "aof_enabled") != Some("1") {
        let advice = "set the server's appendonly to yes: what it confirms since its last snapshot \
                      goes with a crash";
        return Check::warn("persistence", "appendonly is off", advice);
    }
    let on = |policy: &str| format!("appendonly is on, appendfsync {policy}");
    match policy {
        Some("always") => Check::ok("persistence", on("always: what is confirmed is on the disk")),
        Some("no") => {
            let advice = "set it to everysec or always: a machine that fails loses what its system \
                          has not written yet, often half a minute";
            Check::warn("persistence", on("no"), advice)
        }
        Some(other) => {
            let lost = "a server that is killed may lose its last second, a machine that fails two";
            Check::ok("persistence", on(&format!("{other}: {lost}")))
        }
        None => {
            let asked = "(may not be asked here; it is everysec by default: a server that is killed \
                         may lose its last second, a machine that fails two)";
            Check::ok("persistence", on(asked))
        }
    }
}
