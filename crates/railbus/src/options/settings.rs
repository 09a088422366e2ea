//! Where a bus opens and how.

use super::{
    redact::{is_secret, redact},
    server,
    size::parse_size,
};
use crate::{
    clock::parse_duration,
    error::{Error, ErrorKind, Result, nearest},
};
use std::{collections::BTreeMap, fmt, time::Duration};

/// A setting that a backend takes.
///
/// # Examples
/// ```
/// use railbus::options::{Options, Setting};
/// use std::time::Duration;
///
/// const SETTINGS: &[Setting] = &[
///     Setting { key: "retention", help: "how long settled events are kept (default 24h)" },
///     Setting { key: "wire", help: "lazy (default) or always" },
/// ];
/// let mut options = Options::parse("queue:orders?retention=48h")?.with_address("bills");
/// options.set("wire", "always");
/// options.check(SETTINGS)?;
/// assert_eq!((options.address(), options.text("wire")), ("bills", Some("always")));
/// assert_eq!(options.duration("retention")?, Some(Duration::from_secs(48 * 3600)));
/// assert_eq!(options.one_of("wire", &[("lazy", false), ("always", true)])?, Some(true));
///
/// options.set("retntion", "1h");
/// let error = options.check(SETTINGS).unwrap_err();
/// assert!(error.to_string().contains("retntion"), "{error}");
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key, as URLs, tables and maps write it.
    pub key: &'static str,
    /// What it does and its default, as one phrase.
    pub help: &'static str,
}

/// Where a bus opens and how: the backend's name, its address and its settings.
///
/// A backend on a server (Postgres, Redis, NATS) has no address: URL and map both say where it is
/// as the settings `host`, `port`, `user`, `password`, `database` and `tls`; what was not said is
/// not there. Several hosts stay one text, `a:4222,b:4222`. `ssl`, `db`, `channel_prefix` and
/// `stream_name` are other names of `tls`, `database`, `prefix` and `stream`; a scheme such as
/// `rediss` sets `tls`.
///
/// `Debug` and `Display` never show a secret.
///
/// # Examples
/// ```
/// use railbus::options::Options;
/// use serde_json::json;
///
/// let url = Options::parse("rediss://me:s3cret@cache:6379/2?channel_prefix=shop")?;
/// let map = json!({
///     "backend": "redis", "host": "cache", "port": 6379, "user": "me", "password": "s3cret",
///     "db": 2, "ssl": true, "prefix": "shop",
/// });
/// assert_eq!(url, Options::from_map(map.as_object().unwrap())?);
/// assert_eq!(url.to_string(), "redis://***@cache:6379/2?prefix=shop&tls=true");
/// assert_eq!((url.backend(), url.text("host")), ("redis", Some("cache")));
/// # Ok::<_, railbus::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    pub(super) backend: String,
    // What follows the scheme: a path for sqlite, nothing for memory and servers.
    pub(super) address: String,
    pub(super) settings: BTreeMap<String, String>,
}

impl Options {
    /// Returns the backend's name: the URL's scheme.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// Returns the address: what follows the scheme, without the settings; empty for a server.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Replaces the address.
    #[must_use]
    pub fn with_address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Sets one setting, as the environment does; the last one counts.
    pub fn set(&mut self, key: impl AsRef<str>, value: impl Into<String>) {
        let key = self.canonical(key.as_ref()).to_owned();
        self.settings.insert(key, value.into());
    }

    /// Takes a setting out, so that the backend does not see it.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        self.settings.remove(key)
    }

    /// Returns the name under which the backend looks for a key: `tls` for `ssl`.
    pub(crate) fn canonical<'a>(&self, key: &'a str) -> &'a str {
        server::canonical(&self.backend, key)
    }

    /// Returns the same place without settings, except the one of this key. What says where a server is
    /// and as whom is the place, as far as it is right.
    #[cfg(feature = "app")]
    pub(crate) fn with_only(&self, key: Option<&str>) -> Self {
        let place = server::places(&self.backend).filter_map(|key| {
            let (key, value) = self.settings.get_key_value(key)?;
            server::check(&self.backend, key, key, value).is_ok().then_some((key, value))
        });
        let setting = key.and_then(|key| self.settings.get_key_value(key));
        let settings = place.chain(setting).map(|(key, value)| (key.clone(), value.clone()));
        let settings = settings.collect();
        Self { backend: self.backend.clone(), address: self.address.clone(), settings }
    }

    /// Returns the keys of all settings.
    #[cfg(feature = "app")]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    /// Checks that every setting is among those the backend takes, and the values of those that
    /// every server has.
    ///
    /// # Errors
    /// Returns a config error that names the unknown key, the nearest known one and all known, or
    /// the key, its value and what is allowed.
    pub fn check(&self, known: &[Setting]) -> Result<()> {
        let names = || known.iter().map(|s| s.key);
        let Some(key) = self.settings.keys().find(|k| names().all(|n| n != k.as_str())) else {
            let mut settings = self.settings.iter();
            return settings
                .try_for_each(|(key, value)| server::check(&self.backend, key, key, value));
        };
        let why = format!("`{key}` is not a setting of {}", self.backend);
        let all = names().collect::<Vec<_>>().join(", ");
        if server::is_place(key) && !server::is_server(&self.backend) {
            let all = if all.is_empty() { "none" } else { &all };
            let hint = format!(
                "it says where a server is, and {0} is none; settings of {0}: {all}",
                self.backend
            );
            return Err(Error::new(ErrorKind::Config, "options", why).hint(hint));
        }
        let hint = match (nearest(key, names()), all.is_empty()) {
            (Some(near), _) => format!("did you mean `{near}`? Known: {all}"),
            (None, false) => format!("known: {all}"),
            (None, true) => "it takes none".into(),
        };
        Err(Error::new(ErrorKind::Config, "options", why).hint(hint))
    }

    /// Returns a setting as text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// Returns a setting as a duration.
    ///
    /// # Errors
    /// Returns a config error that names the key if it is not a duration.
    pub fn duration(&self, key: &'static str) -> Result<Option<Duration>> {
        let parsed = self.text(key).map(parse_duration).transpose();
        parsed.map_err(|e| e.with("setting", key))
    }

    /// Returns a setting as a size in bytes: a whole number, or one with a unit, such as `64MiB` (1,024 of
    /// each) or `500kB` (1,000).
    ///
    /// # Errors
    /// Returns a config error that names the key if it is not a size.
    ///
    /// # Examples
    /// ```
    /// use railbus::options::Options;
    ///
    /// let options = Options::parse("sqlite:orders.db?max_size=64MiB")?;
    /// assert_eq!(options.size("max_size")?, Some(64 * 1024 * 1024));
    /// # Ok::<(), railbus::Error>(())
    /// ```
    pub fn size(&self, key: &'static str) -> Result<Option<u64>> {
        let parsed = self.text(key).map(parse_size).transpose();
        parsed.map_err(|e| e.with("setting", key))
    }

    /// Returns a setting as one of the texts allowed.
    ///
    /// # Errors
    /// Returns a config error that names the key and what is allowed.
    pub fn one_of<T: Copy>(&self, key: &'static str, allowed: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        match allowed.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let names = allowed.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
                let why = format!("`{text}` is not a value of `{key}`");
                Err(Error::new(ErrorKind::Config, "options", why).hint(format!("allowed: {names}")))
            }
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Options {
    /// Writes the URL, with `***` in place of secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_server = server::is_server(&self.backend);
        match is_server {
            true => write!(f, "{}:{}", self.backend, server::write(&self.backend, &self.settings))?,
            false => f.write_str(&redact(&format!("{}:{}", self.backend, self.address)))?,
        }
        let written = |key: &str| is_server && server::is_written(key);
        let settings = self.settings.iter().filter(|(key, _)| !written(key));
        for (i, (key, value)) in settings.enumerate() {
            let value = if is_secret(key) { "***".into() } else { redact(value) };
            write!(f, "{}{key}={value}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}
