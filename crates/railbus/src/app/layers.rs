//! What runs around the pipeline of a subscription.

use super::{
    table::{Field, Table},
    values::whole,
};
use crate::{
    bus::On,
    middlewares::{Dedup, Logging, RateLimit, Timeout},
};
use std::time::Duration;
use toml::de::DeValue;

/// What runs around the pipeline of a subscription, each if the file says so. The order is that of the
/// fields, first outermost; the rate is before an event is fetched, the policy outside of all.
///
/// # Examples
/// ```
/// use railbus::app::{AppSpec, DedupSpec, LayersSpec, LogSpec, RateSpec};
/// use std::time::Duration;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("app.toml");
/// std::fs::write(&path, r#"
///     bus.url = "memory:"
///     steps.check.command = ["cat"]
///     pipelines.look.flow = "check"
///     input = [{ kind = "interval", every = "1m", type = "tick" }]
///     [[on]]
///     type = "tick"
///     pipeline = "look"
///     log = true
///     dedup = { by = "order.id", window = "1h" }
///     timeout = "30s"
/// "#).unwrap();
/// let app = AppSpec::load(&path, std::iter::empty()).unwrap();
/// let layers: &LayersSpec = &app.subscriptions[0].layers;
/// let (log, rate): (&Option<LogSpec>, &Option<RateSpec>) = (&layers.log, &layers.rate);
/// assert!(!log.as_ref().unwrap().payloads && rate.is_none());
/// let dedup: &DedupSpec = layers.dedup.as_ref().unwrap();
/// assert_eq!((dedup.by.as_deref(), dedup.shared), (Some("order.id"), false));
/// assert_eq!(layers.timeout, Some(Duration::from_secs(30)));
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayersSpec {
    /// How many events are fetched a second.
    pub rate: Option<RateSpec>,
    /// What is told of each try.
    pub log: Option<LogSpec>,
    /// What is handled once.
    pub dedup: Option<DedupSpec>,
    /// The longest a try may take.
    pub timeout: Option<Duration>,
}

/// How many events are fetched a second.
#[derive(Clone, Debug, PartialEq)]
pub struct RateSpec {
    /// So many.
    pub per_second: f64,
    /// How many at once, after a while without any; `None`: those of a second.
    pub burst: Option<u32>,
    /// The name under which a fleet shares it; `None`: each process has its own.
    pub shared: Option<String>,
}

/// What is told of each try.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSpec {
    /// Whether that is its payload as well (default: not).
    pub payloads: bool,
}

/// What is handled once.
#[derive(Clone, Debug, PartialEq)]
pub struct DedupSpec {
    /// The path in the payload of what is the same; `None`: the event's id.
    pub by: Option<String>,
    /// For how long that is known; `None`: 10 minutes.
    pub window: Option<Duration>,
    /// Whether a fleet knows it (default: each process its own).
    pub shared: bool,
}

impl LayersSpec {
    /// Puts them around what a subscription runs.
    pub(super) fn around(&self, mut on: On) -> On {
        if let Some(LogSpec { payloads }) = &self.log {
            on = on.layer(Logging::new().payloads(*payloads));
        }
        if let Some(DedupSpec { by, window, shared }) = &self.dedup {
            let mut dedup = Dedup::new();
            if let Some(path) = by {
                dedup = dedup.by_path(path);
            }
            if let Some(window) = window {
                dedup = dedup.window(*window);
            }
            on = on.layer(if *shared { dedup.shared() } else { dedup });
        }
        if let Some(RateSpec { per_second, burst, shared }) = &self.rate {
            let mut rate = RateLimit::per_second(*per_second);
            if let Some(burst) = burst {
                rate = rate.burst(*burst);
            }
            if let Some(name) = shared {
                rate = rate.shared(name);
            }
            on = on.layer(rate);
        }
        match self.timeout {
            Some(limit) => on.layer(Timeout::new(limit)),
            None => on,
        }
    }
}

/// Reads the layers of one subscription.
pub(super) fn read(table: &Table<'_>, grouped: bool) -> Option<LayersSpec> {
    let rate = table.take("rate").map(|f| rate(&f, grouped));
    let log = table.take("log").map(|f| log(&f));
    let dedup = table.take("dedup").map(|f| dedup(&f));
    let timeout = table.take("timeout").map(|f| f.duration());
    let (log, dedup) = (whole(log)?.flatten(), whole(dedup)?.flatten());
    Some(LayersSpec { rate: whole(rate)?, log, dedup, timeout: whole(timeout)? })
}

fn rate(field: &Field<'_>, grouped: bool) -> Option<RateSpec> {
    let mut rate = RateSpec { per_second: 0.0, burst: None, shared: None };
    if let DeValue::Integer(_) | DeValue::Float(_) = field.value {
        rate.per_second = per_second(field)?;
    } else {
        const EXAMPLE: &str = "write rate = 50, or rate = { per_second = 50, burst = 10 }";
        let table = field.table("`rate`", Some(EXAMPLE.into()))?;
        let each = table.need("per_second", "per_second = 50").map(|f| per_second(&f));
        let burst = table.take("burst").map(|f| f.count());
        let shared = table.take("shared").map(|f| f.text());
        table.finish();
        rate.per_second = each??;
        rate.burst = whole(burst)?;
        rate.shared = whole(shared)?.map(Into::into);
    }
    if !grouped {
        let hint = "add a `group`, whose events are fetched, or remove `rate`";
        field.notes.hinted(field.span.clone(), "a rate needs a `group`", hint);
        return None;
    }
    Some(rate)
}

fn per_second(field: &Field<'_>) -> Option<f64> {
    let number = match field.value {
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(|n| n as f64),
        DeValue::Float(x) => x.as_str().parse().ok(),
        _ => {
            field.wrong("a number of events a second", None);
            return None;
        }
    };
    let number = number.filter(|n: &f64| n.is_finite() && *n > 0.0);
    if number.is_none() {
        let why = format!("`{}` must be more than 0 events a second", field.key);
        field.notes.hinted(field.span.clone(), why, "0.1 is one in ten seconds");
    }
    number
}

fn log(field: &Field<'_>) -> Option<Option<LogSpec>> {
    if let DeValue::Boolean(_) = field.value {
        return Some(field.boolean()?.then_some(LogSpec { payloads: false }));
    }
    const EXAMPLE: &str = "write log = true, or log = { payloads = true }";
    let table = field.table("`log`", Some(EXAMPLE.into()))?;
    let payloads = table.take("payloads").map(|f| f.boolean());
    table.finish();
    Some(Some(LogSpec { payloads: whole(payloads)?.unwrap_or_default() }))
}

fn dedup(field: &Field<'_>) -> Option<Option<DedupSpec>> {
    if let DeValue::Boolean(_) = field.value {
        let dedup = DedupSpec { by: None, window: None, shared: false };
        return Some(field.boolean()?.then_some(dedup));
    }
    const EXAMPLE: &str = "write dedup = true, or dedup = { by = \"order.id\", window = \"1h\" }";
    let table = field.table("`dedup`", Some(EXAMPLE.into()))?;
    let by = table.take("by").map(|f| f.text());
    let window = table.take("window").map(|f| f.duration());
    let shared = table.take("shared").map(|f| f.boolean());
    table.finish();
    let (by, window) = (whole(by)?.map(Into::into), whole(window)?);
    Some(Some(DedupSpec { by, window, shared: whole(shared)?.unwrap_or_default() }))
}
