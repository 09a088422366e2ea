//! Named producers and consumers beside a bus, on backends of their own.

use super::{beside::Beside, consumer::Consumer, open::Bus, producer::Producer};
use crate::{
    error::{Error, ErrorKind, Result, nearest},
    options::Options,
};
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Map, Value};
use std::{any::Any, collections::BTreeMap, env, time::Duration};

/// What a configuration has.
const SECTIONS: [&str; 3] = ["bus", "consumers", "producers"];

/// What variables begin with that name producers and consumers.
const PRODUCERS: &str = "RAILBUS_PRODUCERS__";
const CONSUMERS: &str = "RAILBUS_CONSUMERS__";

/// The producers and consumers of a bus, by name.
#[derive(Default)]
pub(super) struct Named {
    producers: BTreeMap<String, Producer>,
    consumers: BTreeMap<String, Consumer>,
}

impl Beside for Named {
    fn stop(&self) {
        for consumer in self.consumers.values() {
            drop(consumer.bus().drain());
        }
    }

    fn finish(&self, deadline: Duration) -> BoxFuture<'_, Result<()>> {
        let consumers = self.consumers.values();
        let finishing = consumers.map(move |consumer| consumer.bus().drain().finish(deadline));
        Box::pin(async { join_all(finishing).await.into_iter().collect() })
    }

    fn finish_last(&self, deadline: Duration) -> BoxFuture<'_, Result<()>> {
        let producers = self.producers.values();
        let finishing = producers.map(move |producer| producer.close_within(deadline));
        Box::pin(async { join_all(finishing).await.into_iter().collect() })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Bus {
    /// Opens a bus, and producers and consumers by name beside it, each on a backend of its own, as a
    /// map says: `bus`, `producers` and `consumers`, where each is a URL or a map as
    /// [`Bus::open`], [`Producer::open`] and [`Consumer::open`] take it. Without `bus` it is in memory.
    ///
    /// Closing the bus stops the consumers first and closes the producers last.
    ///
    /// # Errors
    /// As the three; a config error that says where for whatever else is in the map. What was opened by
    /// then is closed.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, json};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::from_config(&json!({
    ///     "bus": "memory:",
    ///     "consumers": { "jobs": { "kind": "memory", "group": "workers", "max_workers": 5 } },
    /// }))
    /// .await?;
    /// let jobs = bus.consumer("jobs")?;
    /// jobs.on("job.added").run(async |job: Event| println!("{}", job.id())).await?;
    /// bus.start().await?; // all consumers that are named
    /// assert_eq!(bus.consumers().collect::<Vec<_>>(), ["jobs"]);
    ///
    /// let unknown = bus.producer("audit").unwrap_err();
    /// assert_eq!(unknown.to_string(), "producer: there is no producer `audit`");
    /// assert_eq!((bus.producers().count(), unknown.advice()), (0, Some("none is configured")));
    /// bus.close().await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn from_config(config: &Value) -> Result<Self> {
        let Value::Object(config) = config else {
            return Err(refused(
                "a configuration is a map",
                "of `bus`, `producers` and `consumers`",
            ));
        };
        if let Some(key) = config.keys().find(|key| !SECTIONS.contains(&key.as_str())) {
            let hint = match nearest(key, SECTIONS) {
                Some(near) => format!("did you mean `{near}`? Known: {}", SECTIONS.join(", ")),
                None => format!("known: {}", SECTIONS.join(", ")),
            };
            return Err(refused(format!("`{key}` is none of what a configuration has"), &hint));
        }
        let place = match config.get("bus") {
            Some(place) => Some(read(place).map_err(|e| e.with("in", "bus"))?),
            None if config.is_empty() => {
                return Err(refused(
                    "the configuration is empty",
                    "add `bus`, `consumers` or `producers`",
                ));
            }
            None => None,
        };
        Self::with_named(place, &section(config, "producers")?, &section(config, "consumers")?)
            .await
    }

    /// Opens a bus as the environment says: `RAILBUS_URL` and `RAILBUS_BUS__KEY` for its own backend,
    /// `RAILBUS_PRODUCERS__NAME__KEY` and `RAILBUS_CONSUMERS__NAME__KEY` for those by name, which are in
    /// lower case then.
    ///
    /// # Errors
    /// As [`Options::from_env`] and [`Bus::from_config`].
    ///
    /// # Examples
    /// ```no_run
    /// use railbus::Bus;
    ///
    /// #[railbus::main]
    /// async fn main() -> railbus::Result<()> {
    ///     // RAILBUS_URL=sqlite:orders.db
    ///     // RAILBUS_CONSUMERS__JOBS__URL=redis-streams://jobs:6379
    ///     // RAILBUS_CONSUMERS__JOBS__GROUP=workers
    ///     let bus = Bus::from_env().await?;
    ///     println!("{:?}", bus.consumer("jobs")?);
    ///     bus.close().await
    /// }
    /// ```
    pub async fn from_env() -> Result<Self> {
        let own = env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("RAILBUS_"))?;
            let why = format!("the value of `{name}` is not UTF-8");
            Some(
                value.into_string().map(|value| (name, value)).map_err(|_| refused(why, "mend it")),
            )
        });
        Self::from_variables(own.collect::<Result<Vec<_>>>()?).await
    }

    /// Opens a bus as an environment says that is given as names and values, as [`Bus::from_env`] does.
    ///
    /// # Errors
    /// As [`Bus::from_env`].
    ///
    /// # Examples
    /// ```
    /// use railbus::Bus;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let variables = [
    ///     ("RAILBUS_CONSUMERS__JOBS__KIND", "memory"),
    ///     ("RAILBUS_CONSUMERS__JOBS__GROUP", "workers"),
    /// ];
    /// let bus = Bus::from_variables(variables).await?;
    /// assert_eq!((bus.capability().name, bus.consumer("jobs")?.group()), ("memory", "workers"));
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn from_variables<N, V>(
        variables: impl IntoIterator<Item = (N, V), IntoIter: Send> + Send,
    ) -> Result<Self>
    where
        N: Into<String>,
        V: Into<String>,
    {
        let (mut producers, mut consumers, mut own) = (Map::new(), Map::new(), Vec::new());
        for (name, value) in variables {
            let (name, value): (String, String) = (name.into(), value.into());
            if let Some(rest) = name.strip_prefix(PRODUCERS) {
                insert(&mut producers, &name, rest, value)?;
            } else if let Some(rest) = name.strip_prefix(CONSUMERS) {
                insert(&mut consumers, &name, rest, value)?;
            } else if let Some(meant) = misspelt(&name) {
                let why = format!("`{name}` names no producer and no consumer");
                return Err(refused(why, &format!("did you mean {meant}?")));
            } else if name == "RAILBUS_URL" || name.starts_with("RAILBUS_BUS__") {
                own.push((name, value));
            }
        }
        let named = !(producers.is_empty() && consumers.is_empty());
        let place = match own.is_empty() && named {
            true => None,
            // What is missing is told.
            false => Some(Options::from_variables(own)?),
        };
        Self::with_named(place, &producers, &consumers).await
    }

    async fn with_named(
        place: Option<Options>,
        producers: &Map<String, Value>,
        consumers: &Map<String, Value>,
    ) -> Result<Self> {
        // All that is wrong with the map first: nothing is opened then.
        let (producers, consumers) = (all(producers, "producer")?, all(consumers, "consumer")?);
        let bus = match place {
            Some(place) => Self::open(place).await.map_err(|e| e.with("in", "bus"))?,
            None => Self::new(),
        };
        let mut named = Named::default();
        let opened = fill(&mut named, producers, consumers).await;
        // Only this bus is there yet, and it has none.
        let _ = bus.0.beside.set(Box::new(named));
        if let Err(error) = opened {
            drop(bus.close().await);
            return Err(error);
        }
        Ok(bus)
    }

    fn named(&self) -> Option<&Named> {
        self.0.beside.get()?.as_any().downcast_ref()
    }

    /// Returns the producer of that name.
    ///
    /// # Errors
    /// Returns a not found error that lists the names that are known.
    pub fn producer(&self, name: &str) -> Result<Producer> {
        let known = self.named().map(|named| &named.producers);
        find(known, name, "producer")
    }

    /// Returns the consumer of that name: the same for all who ask.
    ///
    /// # Errors
    /// Returns a not found error that lists the names that are known.
    pub fn consumer(&self, name: &str) -> Result<Consumer> {
        let known = self.named().map(|named| &named.consumers);
        find(known, name, "consumer")
    }

    /// Returns the names of its producers, in order.
    pub fn producers(&self) -> impl Iterator<Item = &str> {
        self.named().into_iter().flat_map(|named| named.producers.keys()).map(String::as_str)
    }

    /// Returns the names of its consumers, in order.
    pub fn consumers(&self) -> impl Iterator<Item = &str> {
        self.named().into_iter().flat_map(|named| named.consumers.keys()).map(String::as_str)
    }

    /// Starts all consumers that are named. Again is fine.
    ///
    /// # Errors
    /// As [`Consumer::start`], with the name of the first that can't; those before it have begun. A config
    /// error if there are none.
    pub async fn start(&self) -> Result<()> {
        let named = self.named().map(|named| &named.consumers).filter(|all| !all.is_empty());
        let Some(consumers) = named else {
            let why = "there is no consumer to start";
            return Err(Error::new(ErrorKind::Config, "start", why).hint(
                "name one in the configuration: consumers.NAME; subscriptions need no start",
            ));
        };
        for (name, consumer) in consumers {
            consumer.start().await.map_err(|error| error.with("consumer", name))?;
        }
        Ok(())
    }
}

async fn fill(
    named: &mut Named,
    producers: Vec<(String, Options)>,
    consumers: Vec<(String, Options)>,
) -> Result<()> {
    for (name, options) in producers {
        let producer = Producer::open(options).await.map_err(|e| e.with("producer", &name))?;
        named.producers.insert(name, producer);
    }
    for (name, options) in consumers {
        let consumer = Consumer::open(options).await.map_err(|e| e.with("consumer", &name))?;
        named.consumers.insert(name, consumer);
    }
    Ok(())
}

/// Reads a part of the map whose keys are names.
fn section(config: &Map<String, Value>, key: &str) -> Result<Map<String, Value>> {
    match config.get(key) {
        None => Ok(Map::new()),
        Some(Value::Object(all)) => Ok(all.clone()),
        Some(_) => {
            let hint = "write a URL or a map under each name";
            Err(refused(format!("`{key}` is a map of names"), hint))
        }
    }
}

fn all(named: &Map<String, Value>, what: &'static str) -> Result<Vec<(String, Options)>> {
    let one = |(name, place): (&String, &Value)| {
        if name.is_empty() {
            return Err(refused(format!("a {what} has an empty name"), "give it one"));
        }
        Ok((name.clone(), read(place).map_err(|error| error.with(what, name))?))
    };
    named.iter().map(one).collect()
}

fn read(place: &Value) -> Result<Options> {
    match place {
        Value::String(url) => Options::parse(url),
        Value::Object(map) => Options::from_map(map),
        _ => Err(refused("a place is a URL or a map", "such as sqlite:orders.db")),
    }
}

/// Takes what a variable says: `NAME__KEY`.
fn insert(all: &mut Map<String, Value>, variable: &str, rest: &str, value: String) -> Result<()> {
    let lower = rest.to_ascii_lowercase();
    let Some((name, key)) = lower.split_once("__").filter(|(n, k)| !(n.is_empty() || k.is_empty()))
    else {
        let why = format!("`{variable}` names no key");
        let hint = "write NAME__KEY behind it, such as RAILBUS_CONSUMERS__JOBS__URL";
        return Err(refused(why, hint));
    };
    let one = all.entry(name).or_insert_with(|| Value::Object(Map::new()));
    let before = one.as_object_mut().and_then(|one| one.insert(key.into(), Value::String(value)));
    match before {
        None => Ok(()),
        Some(_) => Err(refused(format!("`{variable}` is given twice"), "keep one of them")),
    }
}

/// Returns what was meant by a name that is nearly right.
fn misspelt(name: &str) -> Option<String> {
    let meant = |wrong: [&str; 2], right: &str| {
        let rest = wrong.iter().find_map(|wrong| name.strip_prefix(wrong))?;
        Some(format!("{right}{}", rest.trim_start_matches('_')))
    };
    meant(["RAILBUS_PRODUCER__", "RAILBUS_PRODUCERS_"], PRODUCERS)
        .or_else(|| meant(["RAILBUS_CONSUMER__", "RAILBUS_CONSUMERS_"], CONSUMERS))
}

fn find<T: Clone>(
    known: Option<&BTreeMap<String, T>>,
    name: &str,
    what: &'static str,
) -> Result<T> {
    let found = known.and_then(|known| known.get(name));
    found.cloned().ok_or_else(|| {
        let names: Vec<_> =
            known.iter().flat_map(|known| known.keys()).map(String::as_str).collect();
        let all = names.join(", ");
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? Known: {all}"),
            None if names.is_empty() => "none is configured".into(),
            None => format!("known: {all}"),
        };
        let why = format!("there is no {what} `{}`", name.escape_debug());
        Error::new(ErrorKind::NotFound, what, why).hint(hint)
    })
}

fn refused(why: impl Into<String>, hint: &str) -> Error {
    Error::new(ErrorKind::Config, "configure", why.into()).hint(hint)
}
