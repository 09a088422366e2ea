//! The `[bus]` of an app file, and the environment that overrides it.

use super::{
    problem::{At, Notes},
    table::{Field, Table, suggest},
    values::{from_folder, kind},
};
use crate::{
    error::{Error, Result, nearest},
    options::Options,
};
use serde_json::{Map, Value};
#[cfg(feature = "http")]
use std::collections::HashMap;
use std::{collections::BTreeMap, path::Path};
use toml::de::DeValue;

const EXAMPLE: &str = "bus.url = \"sqlite:orders.db\"";

/// The keys that say where the bus is.
pub(super) const PLACES: [&str; 6] =
    ["url", "kind", "backend", "path", "connection_string", "redis_url"];

/// The environment: `RAILBUS_URL` and `RAILBUS_BUS__KEY` concern the bus, others what names them.
#[derive(Default)]
pub(super) struct Environment {
    bus: Vec<Variable>,
    #[cfg(feature = "http")]
    all: HashMap<String, String>,
}

#[derive(Debug)]
struct Variable {
    name: String,
    // The key of `bus` it sets, in lower case.
    key: String,
    value: String,
}

impl Variable {
    fn at(&self) -> At {
        At::Variable(self.name.clone())
    }
}

/// Where the bus is and how, and who said so.
pub(super) struct Said {
    pub(super) options: Options,
    pub(super) backend: At,
    pub(super) address: At,
    // Where a setting's key stands, and where its value.
    settings: BTreeMap<String, (At, At)>,
}

impl Said {
    /// Takes options of which everything was said at one place.
    fn at(at: &At, options: Options) -> Self {
        let settings = options.keys().map(|key| (key.to_owned(), (at.clone(), at.clone())));
        Self { settings: settings.collect(), backend: at.clone(), address: at.clone(), options }
    }

    fn set(&mut self, key: &str, value: &str, key_at: At, value_at: At) {
        self.options.set(key, value);
        self.settings.insert(self.options.canonical(key).into(), (key_at, value_at));
    }

    /// Returns who set a setting: where its value stands if the key is right, else its key.
    pub(super) fn setting(&self, key: &str, right: bool) -> &At {
        let said = self.settings.get(key);
        said.map_or(&self.backend, |(key, value)| if right { value } else { key })
    }
}

impl Environment {
    pub(super) fn new(variables: impl Iterator<Item = (String, String)>) -> Self {
        #[cfg(feature = "http")]
        let all: HashMap<_, _> = variables.collect();
        #[cfg(feature = "http")]
        let variables = all.clone().into_iter();
        let wanted = |(name, value): (String, String)| {
            let key = match name.strip_prefix("RAILBUS_BUS__") {
                Some(key) if !key.is_empty() => key.to_ascii_lowercase(),
                _ if name == "RAILBUS_URL" => "url".into(),
                _ => return None,
            };
            Some(Variable { name, key, value })
        };
        let mut variables: Vec<_> = variables.filter_map(wanted).collect();
        // RAILBUS_URL comes before RAILBUS_BUS__URL, and the order of an environment is nobody's.
        variables.sort_by(|a, b| {
            (a.name != "RAILBUS_URL", &a.name).cmp(&(b.name != "RAILBUS_URL", &b.name))
        });
        Self {
            bus: variables,
            #[cfg(feature = "http")]
            all,
        }
    }

    /// Returns the value of a variable that the file names.
    #[cfg(feature = "http")]
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.all.get(name).map(String::as_str)
    }

    fn get(&self, keys: &[&str]) -> Option<&Variable> {
        self.bus.iter().find(|variable| keys.contains(&variable.key.as_str()))
    }

    /// Returns where the environment says the bus is: `None` if it does not say, `Some(None)` if
    /// it does, wrongly.
    fn place(&self, notes: &Notes<'_>) -> Option<Option<Said>> {
        let url = self.get(&["url", "connection_string", "redis_url"]);
        let variable = url.or_else(|| self.get(&["kind", "backend"]))?;
        if variable.value.trim().is_empty() {
            let hint = "unset it, or name a bus, such as sqlite:orders.db";
            notes.variable(&variable.name, "is empty", Some(hint.into()));
            return Some(None);
        }
        // A URL says all; what only `kind` names has a path next to it.
        let path = self.get(&["path"]).filter(|_| url.is_none());
        let options = match url {
            Some(url) => Options::parse(&url.value),
            None => of_kind(&variable.value, path.map_or("", |path| &path.value)),
        };
        let refused = |error: Error| notes.refused(&variable.at(), &error);
        let said = |options| Said {
            address: path.unwrap_or(variable).at(),
            ..Said::at(&variable.at(), options)
        };
        Some(options.map_err(refused).ok().map(said))
    }
}

/// What the file says: where the bus is, and the other keys of its table.
struct Drafted<'a> {
    said: Said,
    settings: Vec<(Field<'a>, String)>,
}

/// Reads where the bus is.
///
/// A URL from the environment takes the place of `url`, or of `kind` and `path`; the other keys of
/// the table stay if the backend is the same. Settings from the environment come last.
pub(super) fn read(root: &Table<'_>, folder: &Path, env: &Environment) -> Option<Said> {
    let field = root.take("bus");
    let elsewhere = env.place(root.notes);
    let drafted = field.as_ref().and_then(|f| draft(f, folder, elsewhere.is_none()));
    let (mut said, settings) = match (elsewhere, drafted) {
        (Some(said), drafted) => {
            let said = said?;
            let same = drafted.filter(|d| d.said.options.backend() == said.options.backend());
            (said, same.map(|d| d.settings).unwrap_or_default())
        }
        (None, Some(Drafted { mut said, settings })) => {
            if let Some(path) = env.get(&["path"]) {
                said.options = said.options.with_address(&path.value);
                said.address = path.at();
            }
            (said, settings)
        }
        (None, None) => {
            if field.is_none() {
                let hint = format!("add {EXAMPLE}, or set RAILBUS_URL");
                root.notes.hinted(0..0, "no backend is named: there is no `bus`", hint);
            }
            return None;
        }
    };
    for (field, value) in settings {
        if said.options.text(said.options.canonical(field.key)).is_none() {
            said.set(field.key, &value, (&field.key_span).into(), (&field.span).into());
        }
    }
    for variable in env.bus.iter().filter(|v| !PLACES.contains(&v.key.as_str())) {
        said.set(&variable.key, &variable.value, variable.at(), variable.at());
    }
    Some(said)
}

fn draft<'a>(field: &Field<'a>, folder: &Path, needed: bool) -> Option<Drafted<'a>> {
    let hint = format!("write {EXAMPLE}");
    let table = field.table("[bus]", Some(hint))?;
    let url = table.one_of(&["url", "connection_string", "redis_url"]);
    let named = table.one_of(&["kind", "backend"]);
    let path = table.take("path");
    // A backend beside a URL may say which of a server's backends is meant.
    let options = url.as_ref().map(|url| of_url(url, named.as_ref()));
    let kin = options.as_ref().is_some_and(|(_, kin)| *kin);
    if let Some(url) = &url {
        for other in named.iter().filter(|_| !kin).chain(&path) {
            let why = format!("`{}` and `{}` both say where the bus is", url.key, other.key);
            let (hint, here) =
                (format!("keep `{}` alone", url.key), format!("`{}` is here", url.key));
            other.notes.also(other.key_span.clone(), why, hint, (&url.key_span, &here));
        }
    }
    let settings: Vec<_> = table.rest().filter_map(setting).collect();
    let options = match (options, &named) {
        (Some((options, _)), _) => options?,
        (None, Some(named)) => {
            let path = path.as_ref().map_or(Some(""), Field::text)?;
            of_kind(named.text()?, path).map_err(|e| named.refused(&e)).ok()?
        }
        (None, None) => {
            unnamed(&table, field, needed);
            return None;
        }
    };
    for setting in table.rest().filter(|f| options.text(options.canonical(f.key)).is_some()) {
        let why = format!("`{}` is given twice: here and in the URL", setting.key);
        let url = url.as_ref().map_or(&setting.span, |url| &url.span);
        let also = (url, "the URL is here");
        setting.notes.also(setting.key_span.clone(), why, "keep one of them", also);
    }
    let at = url.as_ref().or(named.as_ref()).unwrap_or(field);
    let mut said = Said::at(&At::from(&at.span), placed(options, folder, at)?);
    if let Some(path) = path.filter(|_| url.is_none()) {
        said.address = At::from(&path.span);
    }
    Some(Drafted { said, settings })
}

fn at_key(field: &Field<'_>, why: String, hint: String) {
    field.notes.hinted(field.key_span.clone(), why, hint);
}

/// Notes that no key of the table names a backend, if one must; a key that was meant to is named, even if
/// the environment names one as well.
fn unnamed(table: &Table<'_>, field: &Field<'_>, needed: bool) {
    let slip = table.rest().find(|f| nearest(f.key, PLACES).is_some());
    let why = "no backend is named: [bus] has neither `url` nor `kind`";
    match slip {
        Some(slip) => at_key(slip, why.into(), suggest(slip.key, &PLACES)),
        None if needed => at_key(field, why.into(), format!("add {EXAMPLE}")),
        None => {}
    }
}

/// Reads a URL, with the backend that is named beside it if both lead to the same server.
fn of_url(url: &Field<'_>, named: Option<&Field<'_>>) -> (Option<Options>, bool) {
    let Some(text) = url.text() else { return (None, false) };
    let both = named.and_then(|named| named.named().ok()).and_then(|kind| {
        let pairs = [("kind", kind), ("url", text)].map(|(k, v)| (k.to_owned(), Value::from(v)));
        Options::from_map(&Map::from_iter(pairs)).ok()
    });
    match both {
        Some(options) => (Some(options), true),
        None => (Options::parse(text).map_err(|e| url.refused(&e)).ok(), false),
    }
}

fn of_kind(kind: &str, path: &str) -> Result<Options> {
    let pairs = [("kind", kind), ("path", path)];
    // A server has none.
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    let pairs = pairs.map(|(key, value)| (key.to_owned(), Value::from(value)));
    Options::from_map(&Map::from_iter(pairs))
}

/// Reads a setting: a text as it is, a number or a boolean as it is written.
fn setting<'a>(field: &Field<'a>) -> Option<(Field<'a>, String)> {
    let value = match field.value {
        DeValue::String(text) => text.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Integer(_) | DeValue::Float(_) => field.json()?.to_string(),
        other => {
            let why = format!(
                "`{}` must be a string, a number or a boolean, not {}",
                field.key,
                kind(other)
            );
            field.notes.add(field.span.clone(), why, None);
            return None;
        }
    };
    Some((field.clone(), value))
}

/// Resolves a relative path of an embedded store from the app file's folder.
fn placed(options: Options, folder: &Path, field: &Field<'_>) -> Option<Options> {
    let address = options.address();
    if options.backend() != "sqlite" || address.is_empty() || address == ":memory:" {
        return Some(options);
    }
    let Some(path) = from_folder(folder, address).to_str().map(str::to_owned) else {
        let why = "the folder's name is not UTF-8, so that no path in it can be an address";
        field.notes.add(field.span.clone(), why, None);
        return None;
    };
    Some(options.with_address(path))
}

#[cfg(test)]
mod tests {
    use super::{Error, Field, Notes, Options, Table, placed};
    use std::path::Path;
    use toml::de::DeTable;

    #[test]
    fn only_the_path_of_an_embedded_store_is_resolved_from_the_folder() -> Result<(), Error> {
        let (toml, _) = DeTable::parse_recoverable("bus = 1");
        let notes = Notes::new("bus = 1");
        let root = Table::new("the file", 0..0, toml.get_ref(), &notes);
        let field: &Field<'_> = &root.fields()[0];
        let address = |url: &str| {
            let options = placed(Options::parse(url)?, Path::new("/folder"), field);
            Ok::<_, Error>(options.map(|options| options.address().to_owned()))
        };
        assert_eq!(address("sqlite:a.db")?.as_deref(), Some("/folder/a.db"));
        assert_eq!(address("elsewhere://h/a.db")?.as_deref(), Some("h/a.db"));
        assert!(notes.is_empty());
        Ok(())
    }
}
