//! Backends on a server: their addresses, in parts, under one set of keys.

use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;

/// The backends on a server, whose address is read into parts.
const SERVERS: [&str; 5] = ["nats", "postgres", "postgres-queue", "redis", "redis-streams"];

/// Other names of keys, as documents and habits have them.
const ALIASES: [(&str, &str); 8] = [
    ("ssl", "tls"),
    ("db", "database"),
    ("channel_prefix", "prefix"),
    ("stream_name", "stream"),
    ("ssl_mode", "sslmode"),
    ("sslrootcert", "tls_ca"),
    ("sslcert", "tls_cert"),
    ("sslkey", "tls_key"),
];

/// The keys that say where a server is and as whom, under all their names.
const PLACE: [&str; 8] = ["host", "port", "user", "password", "database", "db", "tls", "ssl"];

pub(super) fn is_server(backend: &str) -> bool {
    SERVERS.contains(&backend)
}

pub(super) fn is_place(key: &str) -> bool {
    PLACE.contains(&key)
}

/// Returns the keys that say where this backend's server is; none if it has none.
#[cfg(feature = "app")]
pub(super) fn places(backend: &str) -> impl Iterator<Item = &'static str> + use<> {
    let all: &[_] = if is_server(backend) { &PLACE } else { &[] };
    all.iter().copied()
}

/// Returns the backend that a scheme or a name means, and whether it says that the connection is
/// encrypted.
pub(super) fn backend_of(name: &str) -> (String, bool) {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "postgresql" => ("postgres".into(), false),
        // As Python names the driver: postgresql+asyncpg.
        driven if driven.starts_with("postgresql+") || driven.starts_with("postgres+") => {
            ("postgres".into(), false)
        }
        "rediss" => ("redis".into(), true),
        "rediss-streams" => ("redis-streams".into(), true),
        _ => (name, false),
    }
}

/// Tells whether two backends live on the same server, so that a URL of one leads to the other.
pub(super) fn are_kin(one: &str, other: &str) -> bool {
    let server = |name: &str| name.split('-').next().map(str::to_owned);
    one == other || is_server(one) && is_server(other) && server(one) == server(other)
}

/// Returns the key that this backend looks for.
pub(super) fn canonical<'a>(backend: &str, key: &'a str) -> &'a str {
    let alias = ALIASES.iter().find(|(alias, _)| is_server(backend) && *alias == key);
    alias.map_or(key, |(_, name)| name)
}

/// Checks the value of a key that every server has; `shown` is how messages call it.
pub(super) fn check(backend: &str, key: &str, shown: &str, value: &str) -> Result<()> {
    if !is_server(backend) {
        return Ok(());
    }
    let number = |least: u16| value.parse::<u16>().is_ok_and(|n| n >= least);
    let allowed = match canonical(backend, key) {
        "port" if !number(1) => "a whole number from 1 to 65535",
        "tls" if !["true", "false"].contains(&value) => "true or false",
        "database" if backend.starts_with("redis") && !number(0) => "a whole number from 0 on",
        "host" if value.trim().is_empty() => "a name or an address, such as localhost",
        _ => return Ok(()),
    };
    let why = format!("`{value}` is not a value of `{shown}`");
    Err(Error::new(ErrorKind::Config, "options", why).hint(format!("allowed: {allowed}")))
}

/// Reads the address of a URL, what stands between scheme and settings, into settings.
pub(super) fn read(backend: &str, address: &str) -> Result<BTreeMap<String, String>> {
    let refuse = |why: String, hint: &str| {
        Err(Error::new(ErrorKind::Config, "options", why).hint(hint.to_owned()))
    };
    let Some(place) = address.strip_prefix("//") else {
        let why = format!("the URL of {backend} has no // after its scheme");
        return refuse(
            why,
            &format!("write {backend}://HOST:PORT, with USER:PASSWORD@ before HOST"),
        );
    };
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    if path.contains('@') || address.contains('#') {
        let why = "the URL has an `@` behind its first `/`, or a `#`".into();
        return refuse(
            why,
            "in a user or password / is %2F, # is %23 and ? is %3F; elsewhere @ is %40",
        );
    }
    let (identity, server) = match authority.rsplit_once('@') {
        Some((identity, server)) => (Some(identity), server),
        None => (None, authority),
    };
    let (user, password) = identity
        .unwrap_or("")
        .split_once(':')
        .map_or_else(|| (identity.unwrap_or(""), None), |(user, password)| (user, Some(password)));
    // What follows a colon may be a password before an `@` that was forgotten.
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if server.split(',').any(|one| host_and_port(one).1.is_some_and(|port| !is_port(port))) {
        let why = "what follows the `:` of the URL's host is not a port".into();
        return refuse(
            why,
            "write HOST:PORT, the port from 1 to 65535, and USER:PASSWORD@ before HOST",
        );
    }
    // Several hosts, joined by commas, keep their ports.
    let (host, port) = if server.contains(',') { (server, None) } else { host_and_port(server) };
    if let Some(port) = port {
        check(backend, "port", "port", port)?;
    }
    let parts = [
        ("user", Some(user)),
        ("password", password),
        ("host", Some(host)),
        ("port", port),
        ("database", Some(path)),
    ];
    let given = parts.into_iter().filter_map(|(key, part)| Some((key, part?)));
    let parts: BTreeMap<_, _> = given
        .filter(|(_, part)| !part.is_empty())
        .map(|(key, part)| (key.to_owned(), unescape(part)))
        .collect();
    match parts.get("database") {
        Some(name) if check(backend, "database", "database", name).is_err() => {
            let why = "what follows the `/` of the URL is not a database".into();
            refuse(why, "allowed: a whole number from 0 on")
        }
        _ => Ok(parts),
    }
}

/// Splits `host:port` and `[v6]:port`.
fn host_and_port(server: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, if rest.is_empty() { None } else { Some(rest.trim_start_matches(':')) });
    }
    match server.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (server, None),
    }
}

/// Tells whether [`write`] shows this key.
pub(super) fn is_written(key: &str) -> bool {
    ["host", "port", "user", "password", "database"].contains(&key)
}

/// Writes the place that settings name as a URL has it, without its secrets.
pub(super) fn write(backend: &str, settings: &BTreeMap<String, String>) -> String {
    let get = |key: &str| settings.get(key).map(String::as_str);
    // What some take for a user is a token to others.
    let user = match (get("user"), get("password")) {
        (None, None) => String::new(),
        (Some(user), None) if backend.starts_with("postgres") => format!("{user}@"),
        (Some(user), Some(_)) if backend.starts_with("postgres") => format!("{user}:***@"),
        _ => "***@".into(),
    };
    let host = get("host").unwrap_or("");
    let host = match host.contains(':') && !host.contains(',') {
        true => format!("[{host}]"),
        false => host.into(),
    };
    let port = get("port").map(|port| format!(":{port}")).unwrap_or_default();
    let database = get("database").map(|name| format!("/{name}")).unwrap_or_default();
    format!("//{user}{host}{port}{database}")
}

/// Undoes percent encoding where it is valid, leaves everything else as it is.
pub(super) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let code = (bytes[i] == b'%')
            .then(|| text.get(i + 1..i + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        plain.push(code.unwrap_or(bytes[i]));
        i += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.into())
}
