//! What a bus opens from.

use super::settings::Options;
use crate::error::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// What [`Bus::open`](crate::bus::Bus::open) takes: a URL, a map, or [`Options`].
///
/// With the feature `app` a TOML table, too.
///
/// # Examples
/// ```
/// use railbus::options::IntoOptions;
/// use serde_json::json;
///
/// let map = json!({ "backend": "sqlite", "path": "orders.db", "retention": "48h" });
/// assert_eq!(map.into_options()?, "sqlite:orders.db?retention=48h".into_options()?);
/// # Ok::<_, railbus::error::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say where a bus is",
    label = "neither a URL nor a map",
    note = "write a URL such as \"sqlite:orders.db\", json!({{ \"backend\": \"sqlite\", .. }}), or Options"
)]
pub trait IntoOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// As [`Options::parse`] for a text, as [`Options::from_map`] for a map.
    fn into_options(self) -> Result<Options>;
}

impl IntoOptions for Options {
    fn into_options(self) -> Result<Options> {
        Ok(self)
    }
}

impl IntoOptions for &Options {
    fn into_options(self) -> Result<Options> {
        Ok(self.clone())
    }
}

impl IntoOptions for &str {
    fn into_options(self) -> Result<Options> {
        Options::parse(self)
    }
}

impl IntoOptions for &String {
    fn into_options(self) -> Result<Options> {
        Options::parse(self)
    }
}

impl IntoOptions for String {
    fn into_options(self) -> Result<Options> {
        Options::parse(&self)
    }
}

impl IntoOptions for Map<String, Value> {
    fn into_options(self) -> Result<Options> {
        Options::from_map(&self)
    }
}

impl IntoOptions for Value {
    fn into_options(self) -> Result<Options> {
        match self {
            Value::String(url) => Options::parse(&url),
            Value::Object(map) => Options::from_map(&map),
            _ => Err(neither()),
        }
    }
}

#[cfg(feature = "app")]
impl IntoOptions for toml::Table {
    fn into_options(self) -> Result<Options> {
        let json = serde_json::to_value(self);
        json.map_err(|e| neither().because(e))?.into_options()
    }
}

#[cfg(feature = "app")]
impl IntoOptions for toml::Value {
    fn into_options(self) -> Result<Options> {
        match self {
            toml::Value::String(url) => Options::parse(&url),
            toml::Value::Table(table) => table.into_options(),
            _ => Err(neither()),
        }
    }
}

fn neither() -> Error {
    Error::new(ErrorKind::Config, "options", "a bus is named by a URL or a map of its settings")
        .hint("write \"sqlite:orders.db\", or { \"backend\": \"sqlite\", \"path\": \"orders.db\" }")
}
