//! One map of settings, whether they came as a URL, a TOML table, a map or the environment.

use crate::{
    clock::parse_duration,
    error::{Error, ErrorKind, Result, nearest},
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, time::Duration};

/// A setting that a backend takes.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key, as URLs, tables and maps write it.
    pub key: &'static str,
    /// What it does and its default, as one phrase.
    pub help: &'static str,
}

/// Where a bus opens and how: the backend's name, its address and its settings.
///
/// `Debug` never shows a password.
#[derive(Clone, PartialEq)]
pub struct Options {
    backend: String,
    // What follows the scheme: a path for sqlite, nothing for memory.
    address: String,
    settings: BTreeMap<String, String>,
}

impl Options {
    /// Reads a URL such as `sqlite:orders.db?retention=48h`.
    ///
    /// # Errors
    /// Returns a config error if the text has no scheme or its query is malformed.
    pub fn parse(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(Error::new(ErrorKind::Config, "options", "a bus URL starts with a scheme")
                .with("url", redact(url))
                .hint("write memory: or sqlite:PATH, such as sqlite:orders.db"));
        };
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut settings = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                // What stands before an `@` may be the rest of a password that has a `?` in it.
                let (why, hint) = match query.contains('@') {
                    true => (
                        "a setting has no value".into(),
                        "write settings as key=value, joined by &; in a password ? is %3F, & is %26",
                    ),
                    false => (
                        format!("`{pair}` has no value"),
                        "write settings as key=value, joined by &",
                    ),
                };
                Error::new(ErrorKind::Config, "options", why).hint(hint)
            })?;
            if settings.insert(unescape(key), unescape(value)).is_some() {
                let why = format!("`{key}` is given twice");
                return Err(Error::new(ErrorKind::Config, "options", why));
            }
        }
        let address = unescape(address.strip_prefix("//").unwrap_or(address));
        Ok(Self { backend: scheme.to_ascii_lowercase(), address, settings })
    }

    /// Reads a map: `url`, or `backend` (alias `kind`) with `path`; all else are settings.
    ///
    /// # Errors
    /// Returns a config error if no backend is named, a URL stands where its name belongs, or a
    /// value is not a text, number or boolean.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        let mut texts = BTreeMap::new();
        for (key, value) in map {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => {
                    let why = format!("`{key}` must be a text, a number or a boolean");
                    return Err(Error::new(ErrorKind::Config, "options", why));
                }
            };
            texts.insert(key.clone(), text);
        }
        let url = texts.remove("url").or_else(|| texts.remove("connection_string"));
        let backend = texts.remove("backend").or_else(|| texts.remove("kind"));
        let mut options = match (url, backend) {
            (Some(url), _) => Self::parse(&url)?,
            // A whole URL, perhaps with a password: it is not told.
            (None, Some(backend)) if backend.contains(':') => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "options",
                    "a backend's name has no `:`",
                )
                .hint("set `url` to the whole URL, or name the backend alone, such as sqlite"));
            }
            (None, Some(backend)) => Self {
                backend,
                address: texts.remove("path").unwrap_or_default(),
                settings: BTreeMap::new(),
            },
            (None, None) => {
                return Err(Error::new(ErrorKind::Config, "options", "no backend is named")
                    .hint("set `url`, such as url = \"sqlite:orders.db\""));
            }
        };
        options.settings.extend(texts);
        Ok(options)
    }

    /// Returns the backend's name: the URL's scheme.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// Returns the address: what follows the scheme, without the settings.
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

    /// Sets one setting, as the environment does.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.settings.insert(key.into(), value.into());
    }

    /// Returns the same place without settings, except the one of this key.
    #[cfg(feature = "app")]
    pub(crate) fn with_only(&self, key: Option<&str>) -> Self {
        let setting = key.and_then(|key| self.settings.get_key_value(key));
        let settings = setting.map(|(key, value)| (key.clone(), value.clone()));
        let settings = settings.into_iter().collect();
        Self { backend: self.backend.clone(), address: self.address.clone(), settings }
    }

    /// Returns the keys of all settings.
    #[cfg(feature = "app")]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    /// Checks that every setting is among those the backend takes.
    ///
    /// # Errors
    /// Returns a config error that names the unknown key, the nearest known one and all known.
    pub fn check(&self, known: &[Setting]) -> Result<()> {
        let names = || known.iter().map(|s| s.key);
        let Some(key) = self.settings.keys().find(|k| names().all(|n| n != k.as_str())) else {
            return Ok(());
        };
        let why = format!("`{key}` is not a setting of {}", self.backend);
        let all = names().collect::<Vec<_>>().join(", ");
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
        f.write_str(&redact(&format!("{}:{}", self.backend, self.address)))?;
        for (i, (key, value)) in self.settings.iter().enumerate() {
            let secret = ["password", "secret", "token"].iter().any(|s| key.contains(s));
            let value = if secret { "***".into() } else { redact(value) };
            write!(f, "{}{key}={value}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// Puts `***` in place of the password of a URL.
#[must_use]
pub fn redact(url: &str) -> String {
    // Slashes further on are part of the password or of the path.
    let authority = url.find(':').filter(|colon| url[*colon..].starts_with("://"));
    let start = authority.map_or(0, |colon| colon + 3);
    let Some(at) = url[start..].rfind('@').map(|i| i + start) else { return url.into() };
    match url[start..at].find(':') {
        Some(colon) => format!("{}:***{}", &url[..start + colon], &url[at..]),
        None => url.into(),
    }
}

/// Undoes percent encoding where it is valid, leaves everything else as it is.
fn unescape(text: &str) -> String {
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
