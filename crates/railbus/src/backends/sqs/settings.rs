//! What can be set for a queue, and what it guarantees.

use super::place::Place;
use crate::{
    backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
    clock::parse_duration,
    codec::Format,
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use std::time::Duration;

/// How long an event may be held from when it was received, whatever is asked.
pub(super) const HELD_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// What the sqs backend guarantees of a standard queue. One whose name ends with `.fifo` keeps the order
/// of keys, forgets an id for five minutes, and holds back nothing that is published.
pub const CAPABILITY: Capability = Capability {
    name: "sqs",
    broadcast: Broadcast::Inline,
    groups: true,
    ordering: Ordering::None,
    keyed: Keyed::None,
    counts_attempts: true,
    fencing: Fencing::Deadline,
    lease_min: Some(Duration::from_secs(1)),
    extends: true,
    lease_max: Some(HELD_MAX),
    delay_max: Some(HELD_MAX),
    publish_delay_max: Some(Duration::from_secs(15 * 60)),
    withdraws: false,
    delay_step: Duration::from_secs(1),
    dedup: None,
    patterns: Patterns::Client,
    replay: Replay::None,
    dead_letters: true,
    keeps_finished: false,
    keeps_history: false,
    release: Release::CountsAsAttempt,
    batch: Batch::BestEffort,
    positions: false,
    journal: false,
    durable: true,
    payload_max: 240 << 10,
    metadata_max: usize::MAX,
    batch_max: 1_000,
};

/// What it guarantees of a queue that keeps the order of its events.
pub(super) const FIFO: Capability = Capability {
    ordering: Ordering::PerKey,
    keyed: Keyed::Group,
    publish_delay_max: None,
    dedup: Some(Duration::from_secs(5 * 60)),
    ..CAPABILITY
};

/// What can be set in the URL, the table or the map.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "queue_url",
        help: "the queue's whole URL, if the address does not say it; with {group} in its name each group has a queue of its own",
    },
    Setting {
        key: "dlq_url",
        help: "the queue for dead letters (default: the one that the queue's redrive policy names)",
    },
    Setting {
        key: "region_name",
        help: "the region (default: the one in the queue's URL, or else that of the environment or the profile)",
    },
    Setting { key: "region", help: "another name of region_name" },
    Setting {
        key: "endpoint_url",
        help: "where requests go (default: by the region, or to the host in the queue's URL)",
    },
    Setting { key: "endpoint", help: "another name of endpoint_url" },
    Setting {
        key: "profile",
        help: "the profile of the shared configuration files (default: as the environment says)",
    },
    Setting {
        key: "aws_access_key_id",
        help: "credentials in place of the ordinary chain's, with aws_secret_access_key",
    },
    Setting { key: "aws_secret_access_key", help: "the other half of these credentials" },
    Setting { key: "aws_session_token", help: "their token, if they have one" },
    Setting {
        key: "max_messages",
        help: "how many events one request takes, 1 to 10 (default 10)",
    },
    Setting { key: "max_number_of_messages", help: "another name of max_messages" },
    Setting {
        key: "wait_time_seconds",
        help: "how long a request waits for events, 0 to 20 seconds (default 20)",
    },
    Setting { key: "wait_time", help: "another name of wait_time_seconds" },
    Setting {
        key: "visibility_timeout",
        help: "the shortest lease, 0 seconds to 12 hours; a longer one of a subscription counts (default 0)",
    },
    Setting {
        key: "message_attributes",
        help: "names of metadata that go out as message attributes, too, joined by commas; seven at most",
    },
    Setting {
        key: "format",
        help: "how events are written: cloudevents (default), or plain: the payload alone, with type, topic and id beside it",
    },
    Setting {
        key: "create",
        help: "true: queues that are not there are made; those of groups with {group}, and of their dead letters (default false)",
    },
    Setting {
        key: "groups",
        help: "with {group}: the groups that get what is published, joined by commas (default: those whose queues are found)",
    },
    Setting {
        key: "groups_every",
        help: "with {group}: how often it is looked for groups that another process began (default 10s)",
    },
];

/// The settings of one place, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) place: Place,
    pub(super) dead: Option<Place>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) keys: Option<Keys>,
    pub(super) max_messages: i32,
    pub(super) wait: Duration,
    pub(super) visibility: Duration,
    pub(super) attributes: Vec<String>,
    pub(super) format: Format,
    pub(super) create: bool,
    pub(super) groups: Option<Vec<String>>,
    pub(super) groups_every: Duration,
}

/// Credentials that were given.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Settings {
    /// Reads and checks what was set.
    ///
    /// # Errors
    /// Returns a config error that names the setting that is unknown or wrong.
    pub(super) fn read(options: &Options) -> Result<Self> {
        options.check(SETTINGS)?;
        let place = place(options)?;
        let dead = options.text("dlq_url").map(|url| Place::read(url, "dlq_url")).transpose()?;
        if let Some(dead) = dead.as_ref().filter(|dead| dead.is_fifo() != place.is_fifo()) {
            let why = "the dead letters of a FIFO queue need a FIFO queue, and those of another one don't";
            return Err(config(why.into(), "dlq_url", "name a queue of the same kind")
                .with("dlq", dead.name()));
        }
        if dead.as_ref().is_some_and(|dead| dead.is_grouped() && !place.is_grouped()) {
            let why = "dlq_url has {group} in it, and queue_url has not".into();
            return Err(config(why, "dlq_url", "write the name of one queue"));
        }
        let region = region(options, &place)?;
        let endpoint = either(options, "endpoint_url", "endpoint")?.map(str::to_owned);
        if let Some(url) = endpoint
            .as_ref()
            .filter(|url| !url.starts_with("http://") && !url.starts_with("https://"))
        {
            let why = format!("`{url}` is not a URL");
            return Err(config(
                why,
                "endpoint_url",
                "write it whole, such as http://localhost:4566",
            ));
        }
        let formats = [("cloudevents", Format::CloudEvents), ("plain", Format::Plain)];
        let groups = options.text("groups").map(list);
        if groups.is_some() && !place.is_grouped() {
            let why = "`groups` is for queues of many groups, and queue_url names one queue".into();
            return Err(config(
                why,
                "groups",
                "put {group} into the queue's name, or leave `groups` out",
            ));
        }
        Ok(Self {
            endpoint: endpoint.or_else(|| place.endpoint()),
            region,
            profile: options.text("profile").map(str::to_owned),
            keys: keys(options)?,
            max_messages: count(options)?,
            wait: seconds(options, "wait_time_seconds", "wait_time", 20)?
                .unwrap_or(Duration::from_secs(20)),
            visibility: seconds(
                options,
                "visibility_timeout",
                "visibility_timeout",
                HELD_MAX.as_secs(),
            )?
            .unwrap_or_default(),
            attributes: attributes(options)?,
            format: options.one_of("format", &formats)?.unwrap_or_default(),
            create: options.one_of("create", &[("true", true), ("false", false)])?.unwrap_or(false),
            groups,
            groups_every: options.duration("groups_every")?.unwrap_or(Duration::from_secs(10)),
            place,
            dead,
        })
    }
}

fn config(why: String, key: &'static str, hint: &str) -> Error {
    Error::new(ErrorKind::Config, "open sqs", why).with("setting", key).hint(hint)
}

/// Returns what one of two names of a setting says.
fn either<'a>(
    options: &'a Options,
    key: &'static str,
    other: &'static str,
) -> Result<Option<&'a str>> {
    match (options.text(key), options.text(other)) {
        (Some(one), Some(two)) if one != two => {
            let why = format!("`{key}` and `{other}` contradict each other");
            Err(config(why, key, "keep one of them"))
        }
        (one, two) => Ok(one.or(two)),
    }
}

/// Returns the place that the address or `queue_url` names.
fn place(options: &Options) -> Result<Place> {
    let address = options.address();
    let url = match (address.is_empty(), options.text("queue_url")) {
        (true, None) => {
            let why = "no queue is named".into();
            let hint = "write sqs://REGION/ACCOUNT/QUEUE, or set queue_url to the queue's URL";
            return Err(config(why, "queue_url", hint));
        }
        (false, Some(_)) => {
            let why = "the address and queue_url both say which queue is meant".into();
            return Err(config(
                why,
                "queue_url",
                "keep one of them: sqs:?queue_url=.. has no address",
            ));
        }
        (true, Some(url)) => return Place::read(url, "queue_url"),
        (false, None) => address,
    };
    let host = url.split('/').next().unwrap_or_default();
    let bare = host.split(':').next().unwrap_or_default();
    let whole = match bare {
        "localhost" | "127.0.0.1" => format!("http://{url}"),
        // A region has no dot and no port; a host has one or the other.
        _ if !host.contains(['.', ':']) => {
            let suffix = if host.starts_with("cn-") { "com.cn" } else { "com" };
            let rest = url.split_once('/').map_or("", |(_, rest)| rest);
            format!("https://sqs.{host}.amazonaws.{suffix}/{rest}")
        }
        _ => format!("https://{url}"),
    };
    let account = |url: &str| url.matches('/').count() >= 2;
    if !account(url) && bare != "localhost" && bare != "127.0.0.1" {
        let why = format!("`{url}` lacks a region or host, an account or a queue");
        return Err(config(
            why,
            "queue_url",
            "write sqs://REGION/ACCOUNT/QUEUE, such as sqs://us-east-1/123456789012/events",
        ));
    }
    Place::read(&whole, "queue_url")
}

/// Returns the region that is set, which must be the one that the host names, if it does.
fn region(options: &Options, place: &Place) -> Result<Option<String>> {
    let set = either(options, "region_name", "region")?;
    match (set, place.region()) {
        (Some(set), Some(named)) if set != named => {
            let why = format!("the queue is in {named} by its URL, and region_name is {set}");
            Err(config(why, "region_name", "leave region_name out, or correct the URL"))
        }
        (Some(""), _) => {
            Err(config("region_name is empty".into(), "region_name", "name one, such as us-east-1"))
        }
        (set, named) => Ok(set.or(named).map(str::to_owned)),
    }
}

fn keys(options: &Options) -> Result<Option<Keys>> {
    let token = options.text("aws_session_token").map(str::to_owned);
    match (options.text("aws_access_key_id"), options.text("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Ok(Some(Keys { id: id.into(), secret: secret.into(), token })),
        (None, None) if token.is_none() => Ok(None),
        _ => {
            let why = "credentials are given in part".into();
            let hint = "set aws_access_key_id and aws_secret_access_key both, or neither and let the environment say them";
            Err(config(why, "aws_access_key_id", hint))
        }
    }
}

fn count(options: &Options) -> Result<i32> {
    let text = either(options, "max_messages", "max_number_of_messages")?;
    match text.map(str::parse::<i32>) {
        None => Ok(10),
        Some(Ok(n @ 1..=10)) => Ok(n),
        Some(_) => {
            let why = format!("`{}` is not a number of messages", text.unwrap_or_default());
            Err(config(why, "max_messages", "allowed: a whole number from 1 to 10"))
        }
    }
}

/// Reads whole seconds, or a duration that is whole seconds.
fn seconds(
    options: &Options,
    key: &'static str,
    other: &'static str,
    most: u64,
) -> Result<Option<Duration>> {
    let Some(text) = either(options, key, other)? else { return Ok(None) };
    let read = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => parse_duration(text).ok(),
    };
    match read.filter(|time| time.subsec_nanos() == 0 && time.as_secs() <= most) {
        Some(time) => Ok(Some(time)),
        None => {
            let why = format!("`{text}` is not a value of `{key}`");
            let hint = format!("allowed: whole seconds from 0 to {most}, such as 20 or 20s");
            Err(config(why, key, &hint))
        }
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// How many attributes of a message are the user's: SQS has ten, and some say what the event is.
const ATTRIBUTES_MAX: usize = 7;

fn attributes(options: &Options) -> Result<Vec<String>> {
    let names = list(options.text("message_attributes").unwrap_or_default());
    let is_name = |name: &String| {
        let lower = name.to_ascii_lowercase();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        name.bytes().all(plain)
            && name.len() <= 256
            && !lower.starts_with("aws.")
            && !lower.starts_with("amazon.")
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !name.contains("..")
    };
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        let why = format!("`{name}` can't be the name of a message attribute");
        return Err(config(
            why,
            "message_attributes",
            "allowed: letters, digits, _, - and ., and not AWS. before it",
        ));
    }
    if names.len() > ATTRIBUTES_MAX {
        let why = format!("{} message attributes are too many", names.len());
        return Err(config(
            why,
            "message_attributes",
            "SQS has ten, and three say what the event is: name seven at most",
        ));
    }
    Ok(names)
}
