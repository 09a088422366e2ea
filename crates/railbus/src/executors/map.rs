//! Executors as maps.

#[cfg(feature = "processes")]
use super::processes::Processes;
use super::{blocking::Blocking, inline::Inline, threads::Threads};
use crate::{
    error::{Error, ErrorKind, Result, nearest},
    executor::{Executor, IntoExecutor},
};
use serde_json::{Map, Value};
use std::sync::Arc;

const KINDS: [&str; 4] = ["inline", "blocking", "threads", "processes"];

const KEYS: [&str; 5] =
    ["kind", "max_workers", "max_tasks_per_child", "thread_name_prefix", "memory_limit"];

impl IntoExecutor for Value {
    fn into_executor(self) -> Result<Option<Arc<dyn Executor>>> {
        match self {
            Self::Object(map) => map.into_executor(),
            other => {
                let why = format!("{other} is not a map");
                Err(wrong(&why, "write {\"kind\": \"threads\", \"max_workers\": 4}"))
            }
        }
    }
}

impl IntoExecutor for Map<String, Value> {
    fn into_executor(self) -> Result<Option<Arc<dyn Executor>>> {
        let settings = Settings::read(self)?;
        let Settings { workers, tasks, prefix, memory, .. } = &settings;
        match settings.kind.as_str() {
            "inline" => settings.only(&[])?.inline(),
            "blocking" => settings.only(&[])?.blocking(),
            "threads" => {
                settings.only(&["max_workers", "max_tasks_per_child", "thread_name_prefix"])?;
                let mut pool = workers.map_or_else(Threads::default, Threads::new);
                if let Some(tasks) = tasks {
                    pool = pool.max_tasks_per_child(*tasks);
                }
                if let Some(prefix) = prefix {
                    pool = pool.thread_name_prefix(prefix.as_str());
                }
                pool.into_executor()
            }
            _ => {
                settings.only(&["max_workers", "max_tasks_per_child", "memory_limit"])?;
                processes(*workers, *tasks, *memory)
            }
        }
    }
}

#[cfg(feature = "processes")]
fn processes(
    workers: Option<usize>,
    tasks: Option<usize>,
    memory: Option<u64>,
) -> Result<Option<Arc<dyn Executor>>> {
    let mut pool = workers.map_or_else(Processes::default, Processes::new);
    if let Some(tasks) = tasks {
        pool = pool.max_tasks_per_child(tasks);
    }
    if let Some(bytes) = memory {
        pool = pool.memory_limit(bytes);
    }
    pool.into_executor()
}

#[cfg(not(feature = "processes"))]
fn processes(
    _: Option<usize>,
    _: Option<usize>,
    _: Option<u64>,
) -> Result<Option<Arc<dyn Executor>>> {
    let error = Error::new(ErrorKind::Unsupported, "executor", "this build has no `processes`");
    Err(error.hint("build railbus with its feature `processes`"))
}

/// What a map says.
struct Settings {
    kind: String,
    workers: Option<usize>,
    tasks: Option<usize>,
    prefix: Option<String>,
    memory: Option<u64>,
    said: Vec<String>,
}

impl Settings {
    fn read(map: Map<String, Value>) -> Result<Self> {
        let said = map.keys().filter(|key| *key != "kind").cloned().collect();
        let (mut kind, mut prefix) = (None, None);
        let (mut workers, mut tasks, mut memory) = (None, None, None);
        for (key, value) in map {
            match key.as_str() {
                "kind" => kind = Some(text(&key, value)?),
                "thread_name_prefix" => prefix = Some(text(&key, value)?),
                "max_workers" => workers = Some(count(&key, &value)?),
                "max_tasks_per_child" => tasks = Some(count(&key, &value)?),
                "memory_limit" => memory = Some(count(&key, &value)? as u64),
                unknown => return Err(unknown_key(unknown, &KEYS, "an executor")),
            }
        }
        let kind = kind.ok_or_else(|| {
            wrong("`kind` is missing", &format!("it is one of {}", KINDS.join(", ")))
        })?;
        if KINDS.contains(&kind.as_str()) {
            return Ok(Self { kind, workers, tasks, prefix, memory, said });
        }
        let known = format!("known: {}", KINDS.join(", "));
        let hint = match nearest(&kind, KINDS) {
            Some(near) => format!("did you mean `{near}`? {known}"),
            None => known,
        };
        Err(wrong(&format!("`{}` is not a kind of executor", kind.escape_debug()), &hint))
    }

    /// Refuses keys that say nothing to this kind.
    fn only(&self, known: &[&str]) -> Result<&Self> {
        match self.said.iter().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(unknown_key(key, known, &format!("`{}`", self.kind))),
            None => Ok(self),
        }
    }

    fn inline(&self) -> Result<Option<Arc<dyn Executor>>> {
        Inline.into_executor()
    }

    fn blocking(&self) -> Result<Option<Arc<dyn Executor>>> {
        Blocking.into_executor()
    }
}

fn text(key: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(&format!("`{key}` must be a text, not {other}"), "put it in quotes")),
    }
}

fn count(key: &str, value: &Value) -> Result<usize> {
    let number = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    number.ok_or_else(|| {
        let why = format!("`{key}` must be a whole number from 1, not {value}");
        wrong(&why, "leave it out for the default")
    })
}

fn unknown_key(key: &str, known: &[&str], of: &str) -> Error {
    let listed = match known {
        [] => "it has none but kind".to_owned(),
        known => format!("known: {}", known.join(", ")),
    };
    let hint = match nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {listed}"),
        None => listed,
    };
    wrong(&format!("`{}` is not a key of {of}", key.escape_debug()), &hint)
}

fn wrong(why: &str, hint: &str) -> Error {
    Error::new(ErrorKind::Config, "executor", why.to_owned()).hint(hint)
}
