//! What can be set for webhooks that come in, and what they guarantee.

use super::{
    secret::Secret,
    signature::{Encoding, Signature, TOLERANCE},
};
use crate::{
    backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use hyper::header::HeaderName;
use std::{env, path::PathBuf, str::FromStr, time::Duration};

/// What webhooks that come in guarantee: a sender who sends again is the store.
pub const CAPABILITY: Capability = Capability {
    name: "webhook",
    broadcast: Broadcast::None,
    groups: true,
    ordering: Ordering::None,
    keyed: Keyed::None,
    counts_attempts: true,
    fencing: Fencing::Checked,
    lease_min: Some(Duration::from_millis(100)),
    extends: true,
    lease_max: None,
    delay_max: Some(Duration::from_secs(24 * 3600)),
    publish_delay_max: None,
    withdraws: false,
    delay_step: Duration::from_secs(1),
    dedup: Some(Duration::from_secs(24 * 3600)),
    patterns: Patterns::Store,
    replay: Replay::None,
    dead_letters: false,
    keeps_finished: true,
    keeps_history: false,
    release: Release::Free,
    batch: Batch::None,
    positions: false,
    journal: false,
    durable: false,
    payload_max: usize::MAX,
    metadata_max: usize::MAX,
    batch_max: 1,
};

/// What can be set.
pub const SETTINGS: &[Setting] = &[
    Setting { key: "host", help: "the address to listen on (default 127.0.0.1; 0.0.0.0 for all)" },
    Setting { key: "port", help: "the port to listen on; 0 takes a free one" },
    Setting { key: "path", help: "the path that is posted to (default /)" },
    Setting { key: "scheme", help: "how requests are signed: github, standard, stripe or hmac" },
    Setting {
        key: "secret_env",
        help: "the variable that holds the secret; several, by commas: each is good",
    },
    Setting {
        key: "secret",
        help: "the secret itself, where it need not be hidden; several, a line each",
    },
    Setting {
        key: "signature_header",
        help: "hmac: the header with the signature (default X-Signature)",
    },
    Setting { key: "signature_encoding", help: "hmac: hex (default) or base64" },
    Setting {
        key: "signature_prefix",
        help: "hmac: what stands before the signature, such as sha256=",
    },
    Setting { key: "tolerance", help: "how far a signed time may be from now (default 5m)" },
    Setting { key: "type", help: "the type of all events" },
    Setting {
        key: "type_header",
        help: "the header that has the type (with scheme github: X-GitHub-Event)",
    },
    Setting {
        key: "type_field",
        help: "the field of the body that has the type (default: `type` if it is there, else the type is `webhook`)",
    },
    Setting {
        key: "topic",
        help: "the topic of all events; {type} is their type (default: the type)",
    },
    Setting {
        key: "payload_field",
        help: "the field of the body that is the payload (default: the body)",
    },
    Setting {
        key: "id_header",
        help: "the header that has the id (default: webhook-id, X-GitHub-Delivery)",
    },
    Setting {
        key: "id_field",
        help: "the field of the body that has the id (with scheme stripe: id); else a hash of the body is the id",
    },
    Setting { key: "keep_headers", help: "headers that are kept as metadata, by commas" },
    Setting { key: "body_max", help: "the largest body (default 1MiB); more is answered 413" },
    Setting {
        key: "body_timeout",
        help: "how long a body may take to come (default 10s); then 408",
    },
    Setting {
        key: "idle_timeout",
        help: "how long a connection may wait for the end of a head (default 30s)",
    },
    Setting {
        key: "max_connections",
        help: "how many connections are open at once (default 10000); more wait",
    },
    Setting {
        key: "max_requests",
        help: "how many requests are in hand at once (default 512); more are answered 429",
    },
    Setting {
        key: "answer_within",
        help: "after how long a sender is told 503 while its handler goes on (default 25s)",
    },
    Setting { key: "dedup", help: "how long ids are kept (default 24h)" },
    Setting { key: "dedup_max", help: "how many ids are kept at most (default 100000)" },
    Setting { key: "tls_cert", help: "a PEM file of the certificate: https" },
    Setting { key: "tls_key", help: "a PEM file of its key" },
];

/// The settings, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) path: String,
    pub(super) signature: Option<Signature>,
    pub(super) naming: Naming,
    pub(super) limits: Limits,
    pub(super) tls: Option<(PathBuf, PathBuf)>,
}

/// What of a request is what of an event.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    pub(super) event_type: TypeOf,
    pub(super) topic: Option<String>,
    pub(super) payload_field: Option<String>,
    pub(super) id_headers: Vec<HeaderName>,
    pub(super) id_field: Option<String>,
    pub(super) keep: Vec<HeaderName>,
}

#[derive(Clone, Debug)]
pub(super) enum TypeOf {
    All(String),
    Header(HeaderName),
    Field(String),
    /// The field `type`, if it is there.
    Usual,
}

#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) body: usize,
    pub(super) body_time: Duration,
    pub(super) head_time: Duration,
    pub(super) connections: usize,
    pub(super) requests: usize,
    pub(super) answer_within: Duration,
    pub(super) dedup: Duration,
    pub(super) ids: usize,
}

impl Settings {
    pub(super) fn read(options: &Options) -> Result<Self> {
        options.check(SETTINGS)?;
        let (place, path) = match options.address().split_once('/') {
            Some((place, path)) => (place, format!("/{path}")),
            None => (options.address(), "/".to_owned()),
        };
        let path = options.text("path").map_or(path, str::to_owned);
        if !path.starts_with('/') || path.contains(['?', '#', '{', '}']) {
            return Err(wrong("path", &path, "a path such as /hooks, without ? and #"));
        }
        let (host, port) = place_of(place)?;
        let port = match options.text("port") {
            Some(text) => Some(number(options, "port", text)?),
            None => port,
        };
        let host = options.text("host").map(str::to_owned).or(host);
        Ok(Self {
            host: host.unwrap_or_else(|| "127.0.0.1".into()),
            port,
            path,
            signature: signature(options)?,
            naming: naming(options)?,
            limits: limits(options)?,
            tls: match (options.text("tls_cert"), options.text("tls_key")) {
                (Some(cert), Some(key)) => Some((cert.into(), key.into())),
                (None, None) => None,
                _ => {
                    let why = "a certificate and its key go together";
                    return Err(config(why).hint("set tls_cert and tls_key, or neither"));
                }
            },
        })
    }
}

/// Reads `HOST:PORT`.
fn place_of(place: &str) -> Result<(Option<String>, Option<u16>)> {
    if place.is_empty() {
        return Ok((None, None));
    }
    let port = place.rsplit_once(':').filter(|(host, _)| !host.ends_with(':'));
    let Some((host, port)) = port else { return Ok((Some(place.into()), None)) };
    let port = port.parse().map_err(|_| {
        config("what follows the `:` of the host is not a port")
            .hint("write webhook://HOST:PORT/PATH, the port from 0 to 65535")
    })?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((Some(host.into()).filter(|host: &String| !host.is_empty()), Some(port)))
}

/// Returns how requests are signed, by which secrets; none if nothing says so.
pub(crate) fn signature(options: &Options) -> Result<Option<Signature>> {
    let said = options.text("secret").into_iter().flat_map(str::lines);
    let mut secrets: Vec<_> = said.map(Secret::new).collect();
    for name in options.text("secret_env").into_iter().flat_map(|names| names.split(',')) {
        let name = name.trim();
        let value = env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
            config(format!("there is no variable `{}` in the environment", name.escape_debug()))
                .hint("set it to the secret that the sender signs with")
        })?;
        secrets.push(Secret::new(value));
    }
    let scheme = options.text("scheme");
    let header = options.text("signature_header");
    let scheme = match (scheme, secrets.is_empty()) {
        (None, true) => return Ok(None),
        (Some(_), true) => {
            return Err(config("requests are to be signed, and no secret is said")
                .hint("set secret_env to the variable that holds it"));
        }
        (None, false) if header.is_some() => "hmac",
        (None, false) => {
            return Err(config("there is a secret, and nothing says how requests are signed")
                .hint("set scheme: github, standard, stripe or hmac"));
        }
        (Some(scheme), false) => scheme,
    };
    let made = match scheme.to_ascii_lowercase().as_str() {
        "github" => Secret::sign_as(&secrets, |secret| Signature::github(secret)),
        "standard" => Secret::sign_as(&secrets, |secret| Signature::standard(secret)),
        "stripe" => Secret::sign_as(&secrets, |secret| Signature::stripe(secret)),
        "hmac" => {
            let header = header.unwrap_or("X-Signature");
            Secret::sign_as(&secrets, |secret| Signature::hmac(header, secret))
        }
        other => return Err(wrong("scheme", other, "github, standard, stripe, hmac")),
    };
    let encodings = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    let encoding = options.one_of("signature_encoding", &encodings)?.unwrap_or_default();
    let prefix = options.text("signature_prefix").unwrap_or_default();
    let tolerance = options.duration("tolerance")?.unwrap_or(TOLERANCE);
    Ok(made?.map(|made| made.encoding(encoding).prefix(prefix).tolerance(tolerance)))
}

fn naming(options: &Options) -> Result<Naming> {
    let scheme = options.text("scheme").map(str::to_ascii_lowercase);
    let is = |name: &str| scheme.as_deref() == Some(name);
    let said = ["type", "type_header", "type_field"].map(|key| options.text(key));
    let event_type = match said {
        [Some(all), None, None] => TypeOf::All(all.into()),
        [None, Some(header), None] => TypeOf::Header(name_of("type_header", header)?),
        [None, None, Some(field)] => TypeOf::Field(field.into()),
        [None, None, None] if is("github") => {
            TypeOf::Header(HeaderName::from_static("x-github-event"))
        }
        [None, None, None] => TypeOf::Usual,
        _ => {
            let why = "`type`, `type_header` and `type_field` all say what the type is";
            return Err(config(why).hint("keep one of them"));
        }
    };
    let (github, standard) = ("x-github-delivery", "webhook-id");
    let id_headers = match options.text("id_header") {
        Some(header) => vec![name_of("id_header", header)?],
        // Where it is signed no other counts.
        None if is("standard") => vec![HeaderName::from_static(standard)],
        None if is("stripe") => Vec::new(),
        None => vec![HeaderName::from_static(standard), HeaderName::from_static(github)],
    };
    let keep = options.text("keep_headers").unwrap_or_default();
    let keep = keep.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(Naming {
        event_type,
        topic: options.text("topic").map(Into::into),
        payload_field: options.text("payload_field").map(Into::into),
        id_headers,
        id_field: options.text("id_field").or(is("stripe").then_some("id")).map(Into::into),
        keep: keep.map(|name| name_of("keep_headers", name)).collect::<Result<_>>()?,
    })
}

fn limits(options: &Options) -> Result<Limits> {
    let time = |key, default: u64| {
        let time = options.duration(key)?.unwrap_or(Duration::from_secs(default));
        match time.is_zero() {
            true => Err(wrong(key, "0s", "a duration, such as 10s")),
            false => Ok(time),
        }
    };
    let count = |key, default: usize| match options.text(key) {
        None => Ok(default),
        Some(text) => match number(options, key, text)? {
            0 => Err(wrong(key, text, "a whole number from 1 on")),
            count => Ok(count),
        },
    };
    let body = options.size("body_max")?.unwrap_or(1 << 20);
    Ok(Limits {
        body: usize::try_from(body).unwrap_or(usize::MAX),
        body_time: time("body_timeout", 10)?,
        head_time: time("idle_timeout", 30)?,
        connections: count("max_connections", 10_000)?,
        requests: count("max_requests", 512)?,
        answer_within: time("answer_within", 25)?,
        dedup: time("dedup", 24 * 3600)?,
        ids: count("dedup_max", 100_000)?,
    })
}

fn number<T: FromStr>(_: &Options, key: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| wrong(key, text, "a whole number"))
}

fn name_of(key: &str, text: &str) -> Result<HeaderName> {
    HeaderName::try_from(text).map_err(|_| wrong(key, text, "a header's name"))
}

fn wrong(key: &str, value: &str, allowed: &str) -> Error {
    config(format!("`{}` is not a value of `{key}`", value.escape_debug()))
        .hint(format!("allowed: {allowed}"))
}

fn config(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "open webhook", why)
}
