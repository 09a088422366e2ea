//! Reading options: from a URL, a map, the environment.

use super::{misspelt::misspelt, redact::redact, server, settings::Options};
use crate::error::{Error, ErrorKind, Result};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, env};

const URL: [&str; 3] = ["url", "connection_string", "redis_url"];
const BACKEND: [&str; 2] = ["backend", "kind"];

/// Something that was said: its key, how whoever said it wrote the key, its value.
struct Said {
    key: String,
    shown: String,
    value: String,
}

impl Said {
    fn new(key: String, value: String) -> Self {
        Self { shown: key.clone(), key, value }
    }
}

impl Options {
    /// Reads a URL such as `sqlite:orders.db?retention=48h`.
    ///
    /// # Errors
    /// Returns a config error if the text has no scheme, or its address or query is malformed. No
    /// part of it is told that may be a password.
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) =
            url.split_once(':').filter(|(s, _)| is_scheme(s)).ok_or_else(|| {
                let error =
                    Error::new(ErrorKind::Config, "options", "a bus URL starts with a scheme")
                        .hint("write memory: or sqlite:PATH, such as sqlite:orders.db");
                match url.contains(['@', ':']) {
                    true => error,
                    false => error.with("url", redact(url)),
                }
            })?;
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            // What stands before it may be the rest of a password that has a `?` in it.
            return Err(Error::new(
                ErrorKind::Config,
                "options",
                "the URL has an `@` behind its `?`",
            )
            .hint("in a password ? is %3F, & is %26; in a setting @ is %40"));
        }
        let (backend, tls) = server::backend_of(scheme);
        let mut options = Self { backend, address: String::new(), settings: BTreeMap::new() };
        match server::is_server(&options.backend) {
            true => options.settings = server::read(&options.backend, address)?,
            false => {
                options.address = server::unescape(address.strip_prefix("//").unwrap_or(address));
            }
        }
        if tls {
            options.settings.insert("tls".into(), "true".into());
        }
        let mut draft = Draft::new(options, scheme);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::new(ErrorKind::Config, "options", format!("`{pair}` has no value"))
                    .hint("write settings as key=value, joined by &")
            })?;
            draft.add(Said::new(server::unescape(key), server::unescape(value)), false)?;
        }
        Ok(draft.options)
    }

    /// Reads a map: `url`, or `backend` (alias `kind`) with `path`, or with `host`, `port` and so
    /// on; all else are settings.
    ///
    /// `connection_string` and `redis_url` are other names of `url`. A `backend` beside a URL may
    /// say which of a server's backends is meant, such as `redis-streams` beside `redis://…`.
    ///
    /// # Errors
    /// Returns a config error if no backend is named, a URL stands where its name belongs, a value
    /// is not a text, number or boolean, or two keys contradict each other.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        let text = |(key, value): (&String, &Value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => {
                    let why = format!("`{key}` must be a text, a number or a boolean");
                    return Err(Error::new(ErrorKind::Config, "options", why));
                }
            };
            Ok(Said::new(key.clone(), value))
        };
        let mut said = map.iter().map(text).collect::<Result<Vec<_>>>()?;
        let mut draft = Draft::begin(&mut said)?.ok_or_else(|| {
            Error::new(ErrorKind::Config, "options", "no backend is named")
                .hint("set `url`, such as url = \"sqlite:orders.db\"")
        })?;
        said.into_iter().try_for_each(|setting| draft.add(setting, false))?;
        Ok(draft.options)
    }

    /// Reads the environment of this process: `RAILBUS_URL`, and `RAILBUS_BUS__KEY` for the keys of
    /// [`Options::from_map`]; a key there takes the place of the URL's setting.
    ///
    /// Every other variable is ignored; [`misspelt`] tells which may have been meant.
    ///
    /// # Examples
    /// ```no_run
    /// use railbus::{Bus, options::Options};
    ///
    /// #[railbus::main]
    /// async fn main() -> railbus::Result<()> {
    ///     let bus = Bus::open(Options::from_env()?).await?;
    ///     bus.close().await
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns a config error if no variable names a backend, a variable is not UTF-8, or two
    /// contradict each other.
    pub fn from_env() -> Result<Self> {
        let mut variables = Vec::new();
        for (name, value) in env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with("RAILBUS_")) else {
                continue;
            };
            match value.into_string() {
                Ok(value) => variables.push((name.to_owned(), value)),
                Err(_) if key_of(name).is_none() => {}
                Err(_) => {
                    let why = format!("the value of `{name}` is not UTF-8");
                    return Err(Error::new(ErrorKind::Config, "options", why));
                }
            }
        }
        Self::from_variables(variables)
    }

    /// Reads an environment that is given as names and values, as [`Options::from_env`] does.
    ///
    /// # Errors
    /// As [`Options::from_env`].
    ///
    /// # Examples
    /// ```
    /// use railbus::options::Options;
    ///
    /// let variables = [("RAILBUS_URL", "sqlite:orders.db"), ("RAILBUS_BUS__RETENTION", "48h")];
    /// let options = Options::from_variables(variables)?;
    /// assert_eq!(options.to_string(), "sqlite:orders.db?retention=48h");
    /// # Ok::<_, railbus::error::Error>(())
    /// ```
    pub fn from_variables<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Result<Self>
    where
        N: AsRef<str>,
        V: Into<String>,
    {
        let mut slips = Vec::new();
        let said = variables.into_iter().filter_map(|(name, value)| {
            slips.extend(misspelt([name.as_ref()]));
            let (key, shown) = (key_of(name.as_ref())?, name.as_ref().to_owned());
            Some(Said { key, shown, value: value.into() })
        });
        let mut said: Vec<_> = said.collect();
        said.sort_by(|a, b| a.shown.cmp(&b.shown));
        // The short name is the one that `railbus run` looks at first.
        if said.iter().any(|said| said.shown == "RAILBUS_URL") {
            said.retain(|said| said.shown != "RAILBUS_BUS__URL");
        }
        let mut draft = Draft::begin(&mut said)?.ok_or_else(|| {
            let error = Error::new(ErrorKind::Config, "options", "RAILBUS_URL is not set");
            match slips.first() {
                Some((name, meant)) => error.hint(format!("{name} is: did you mean {meant}?")),
                None => {
                    error.hint("set it to the URL of a bus, such as RAILBUS_URL=sqlite:orders.db")
                }
            }
        })?;
        said.into_iter().try_for_each(|setting| draft.add(setting, true))?;
        Ok(draft.options)
    }
}

/// Options in the making, and who said what.
struct Draft {
    options: Options,
    // What named the backend, and how the keys were written that were added.
    from: String,
    names: BTreeMap<String, String>,
}

impl Draft {
    fn new(options: Options, from: impl Into<String>) -> Self {
        Self { options, from: from.into(), names: BTreeMap::new() }
    }

    /// Takes what says where the bus is; `None` if nothing does.
    fn begin(said: &mut Vec<Said>) -> Result<Option<Self>> {
        let url = take(said, &URL)?;
        let named = take(said, &BACKEND)?;
        let Some(first) = url.as_ref().or(named.as_ref()) else { return Ok(None) };
        if first.value.trim().is_empty() {
            let why = format!("`{}` is empty", first.shown);
            return Err(Error::new(ErrorKind::Config, "options", why)
                .hint("name a bus, such as sqlite:orders.db"));
        }
        let Some(url) = &url else { return Self::named(first, said).map(Some) };
        let options = Options::parse(&url.value).map_err(|e| e.with("in", &url.shown))?;
        let mut draft = Self::new(options, &url.shown);
        if let Some(named) = named {
            draft.rename(named)?;
        }
        match said.iter().find(|said| ["path", "host", "port"].contains(&said.key.as_str())) {
            Some(other) => Err(both(&url.shown, &other.shown)),
            None => Ok(Some(draft)),
        }
    }

    /// Begins with a backend's name, and the path if it takes one.
    fn named(named: &Said, said: &mut Vec<Said>) -> Result<Self> {
        // A whole URL, perhaps with a password: it is not told.
        if !is_scheme(&named.value) {
            let why = format!("`{}` is not a backend's name", named.shown);
            return Err(Error::new(ErrorKind::Config, "options", why)
                .hint("set `url` to the whole URL, or name the backend alone, such as sqlite"));
        }
        let (backend, tls) = server::backend_of(&named.value);
        let path = take(said, &["path"])?;
        if let Some(path) = path.as_ref().filter(|_| server::is_server(&backend)) {
            let why = format!("`{}` names a file, and {backend} is a server", path.shown);
            return Err(Error::new(ErrorKind::Config, "options", why)
                .hint("set `host`, or `url` to the whole URL"));
        }
        let address = path.map(|path| path.value).unwrap_or_default();
        let tls = tls.then(|| ("tls".to_owned(), "true".to_owned()));
        let options = Options { backend, address, settings: tls.into_iter().collect() };
        Ok(Self::new(options, &named.shown))
    }

    /// Takes the backend that is named beside a URL, if the URL leads to its server.
    fn rename(&mut self, named: Said) -> Result<()> {
        let (backend, tls) = server::backend_of(&named.value);
        if !server::are_kin(&backend, &self.options.backend) {
            return Err(both(&self.from, &named.shown));
        }
        self.options.backend = backend;
        match tls {
            true => self.add(Said { key: "tls".into(), value: "true".into(), ..named }, false),
            false => Ok(()),
        }
    }

    /// Adds a setting, unless it contradicts what was added before, or, unless it comes `over` it,
    /// what the draft began with.
    fn add(&mut self, Said { key, shown, value }: Said, over: bool) -> Result<()> {
        server::check(&self.options.backend, &key, &shown, &value)?;
        let key = self.options.canonical(&key).to_owned();
        let before = self.options.settings.insert(key.clone(), value.clone());
        let differs = before.is_some_and(|before| before != value);
        match self.names.insert(key, shown.clone()) {
            Some(other) if other == shown => {
                let why = format!("`{shown}` is given twice");
                Err(Error::new(ErrorKind::Config, "options", why).hint("keep one of them"))
            }
            Some(other) if differs => Err(contradiction(&other, &shown)),
            None if differs && !over => Err(contradiction(&self.from, &shown)),
            _ => Ok(()),
        }
    }
}

fn both(one: &str, other: &str) -> Error {
    let why = format!("`{one}` and `{other}` both say where the bus is");
    Error::new(ErrorKind::Config, "options", why).hint(format!("keep `{one}` alone"))
}

fn contradiction(one: &str, other: &str) -> Error {
    let why = format!("`{one}` and `{other}` contradict each other");
    Error::new(ErrorKind::Config, "options", why).hint("keep one of them")
}

/// Takes what was said under one of these names, which must be one alone.
fn take(said: &mut Vec<Said>, keys: &[&str]) -> Result<Option<Said>> {
    let mut taken = said.extract_if(.., |said| keys.contains(&said.key.as_str()));
    match (taken.next(), taken.next()) {
        (Some(one), Some(other)) => {
            let why = format!("`{}` and `{}` say the same", one.shown, other.shown);
            Err(Error::new(ErrorKind::Config, "options", why).hint("keep one of them"))
        }
        (one, _) => Ok(one),
    }
}

/// Returns the key that a variable sets.
fn key_of(name: &str) -> Option<String> {
    match name.strip_prefix("RAILBUS_BUS__") {
        Some(key) => Some(key).filter(|key| !key.is_empty()).map(str::to_ascii_lowercase),
        None => (name == "RAILBUS_URL").then(|| "url".into()),
    }
}

/// Tells whether a text can be a scheme, and so is no part of an address.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
}
