//! Values of an app file, each checked for its type and its limits.

use super::{
    problem::At,
    table::{Field, Key, Table, suggest},
};
use crate::{
    clock::parse_duration,
    error::Error,
    retry::{IntoJitter, Retry},
    topic::check_name,
};
use serde_json::{Map, Value};
use std::{
    collections::HashSet,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{Spanned, de::DeValue};

impl<'a> Field<'a> {
    /// Notes that the value is of the wrong type.
    pub(super) fn wrong(&self, wanted: &str, hint: Option<String>) {
        let why = format!("`{}` must be {wanted}, not {}", self.key, kind(self.value));
        self.notes.add(self.span.clone(), why, hint);
    }

    /// Notes what is wrong with the value, by an error of the library.
    pub(super) fn refused(&self, error: &Error) {
        self.notes.refused(&At::from(&self.span), error);
    }

    /// Returns the place in the file of a part of this text, where it stands there as it is; the
    /// place of the whole text where it is written with escapes.
    pub(super) fn inside(&self, part: &Range<usize>) -> Range<usize> {
        let raw = self.notes.text.get(self.span.clone());
        let text = self.value.as_str().filter(|text| !text.is_empty());
        let offset = text.and_then(|text| raw?.find(text));
        match offset {
            Some(offset) => {
                let start = self.span.start + offset;
                start + part.start..start + part.end
            }
            None => self.span.clone(),
        }
    }

    /// Reads a text that is not empty.
    pub(super) fn text(&self) -> Option<&'a str> {
        let noted = |why| self.notes.add(self.span.clone(), why, None);
        self.named().map_err(noted).ok()
    }

    /// Returns a text that is not empty, or what is wrong with it, which is not noted.
    pub(super) fn named(&self) -> Result<&'a str, String> {
        match self.value {
            DeValue::String(text) if text.trim().is_empty() => {
                Err(format!("`{}` is empty", self.key))
            }
            DeValue::String(text) if text.contains('\0') => {
                Err(format!("`{}` has a NUL character", self.key))
            }
            DeValue::String(text) => Ok(text),
            other => Err(format!("`{}` must be a string, not {}", self.key, kind(other))),
        }
    }

    /// Reads a text that is one of those allowed.
    pub(super) fn one_of<T: Copy>(&self, allowed: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = allowed.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<_> = allowed.iter().map(|(name, _)| *name).collect();
            let why = format!("`{}` is not a value of `{}`", text.escape_debug(), self.key);
            self.notes.hinted(self.span.clone(), why, suggest(text, &names));
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let found = self.value.as_bool();
        if found.is_none() {
            self.wrong("true or false", None);
        }
        found
    }

    /// Reads a share, from 0 to 1, or whether half of it is meant.
    fn share(&self) -> Option<f64> {
        let share = match self.value {
            DeValue::Boolean(is) => Some(is.into_jitter()),
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            let why = "a share of the wait, from 0 to 1, or true or false";
            self.wrong(why, Some("write a number, such as 0.2".into()));
        }
        share
    }

    /// Reads a count: a whole number from 1 to `u32::MAX`.
    pub(super) fn count(&self) -> Option<u32> {
        let DeValue::Integer(number) = self.value else {
            self.wrong("a whole number", None);
            return None;
        };
        let count = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let count = count.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        if count.is_none() {
            let why = format!("`{}` must be from 1 to {}, not {number}", self.key, u32::MAX);
            self.notes.add(self.span.clone(), why, None);
        }
        count
    }

    /// Reads a duration as text, more than zero.
    pub(super) fn duration(&self) -> Option<Duration> {
        if matches!(self.value, DeValue::Integer(_) | DeValue::Float(_)) {
            self.wrong("a duration", Some("write a number and a unit, such as \"30s\"".into()));
            return None;
        }
        match parse_duration(self.text()?) {
            Ok(duration) if !duration.is_zero() => Some(duration),
            Ok(_) => {
                let why = format!("`{}` must be more than zero", self.key);
                self.notes.add(self.span.clone(), why, None);
                None
            }
            Err(error) => {
                self.refused(&error);
                None
            }
        }
    }

    /// Reads seconds as a number, zero included.
    fn seconds(&self) -> Option<Duration> {
        let seconds = match self.value {
            DeValue::Integer(n) => {
                i64::from_str_radix(n.as_str(), n.radix()).ok().map(|n| n as f64)
            }
            DeValue::Float(x) => x.as_str().parse().ok(),
            _ => {
                let hint = "write seconds as a number, such as 0.5";
                self.wrong("a number of seconds", Some(hint.into()));
                return None;
            }
        };
        let duration = seconds.and_then(|s: f64| Duration::try_from_secs_f64(s).ok());
        if duration.is_none() {
            let why = format!("`{}` must be a number of seconds, zero or more", self.key);
            self.notes.add(self.span.clone(), why, None);
        }
        duration
    }

    /// Reads a retry policy; keys that are left out keep the defaults of [`Retry`].
    pub(super) fn retry(&self) -> Option<Retry> {
        const EXAMPLE: &str = "write retry = { max_attempts = 3, backoff_factor = 0.5 }";
        let table = self.table("`retry`", Some(EXAMPLE.into()))?;
        let attempts = table.take("max_attempts").map(|f| f.count());
        let factor = table.take("backoff_factor").or_else(|| table.take("backoff"));
        let factor = factor.map(|f| f.seconds());
        let max = table.take("max_backoff").map(|f| f.seconds());
        let jitter = table.take("jitter").map(|f| f.share());
        let kinds = table.take("retry_on").map(|f| f.names("retry_on = [\"timeout\"]"));
        table.finish();
        let mut retry = attempts.map_or_else(|| Some(Retry::default()), |n| n.map(Retry::attempts));
        if let Some(factor) = factor {
            retry = retry.zip(factor).map(|(retry, factor)| retry.backoff_factor(factor));
        }
        if let Some(max) = max {
            retry = retry.zip(max).map(|(retry, max)| retry.max_backoff(max));
        }
        if let Some(jitter) = jitter {
            retry = retry.zip(jitter).map(|(retry, jitter)| retry.jitter(jitter));
        }
        if let Some(kinds) = kinds {
            let all = |(retry, kinds): (_, Vec<_>)| kinds.into_iter().fold(retry, Retry::on_kind);
            retry = retry.zip(kinds).map(all);
        }
        retry
    }

    /// Reads a table; `title` is how messages name it.
    pub(super) fn table(&self, title: &str, hint: Option<String>) -> Option<Table<'a>> {
        let DeValue::Table(table) = self.value else {
            self.wrong("a table", hint);
            return None;
        };
        Some(Table::new(title, self.span.clone(), table, self.notes))
    }

    /// Reads an array of tables, `[[key]]`; what in it is not a table is left out.
    pub(super) fn tables(&self) -> Vec<Table<'a>> {
        let title = format!("[[{}]]", self.key);
        let hint = || Some(format!("write {title}, once for each"));
        let DeValue::Array(items) = self.value else {
            self.wrong("an array of tables", hint());
            return Vec::new();
        };
        let table = |item: &'a Spanned<DeValue<'a>>| match item.get_ref() {
            DeValue::Table(table) => {
                Some(Table::new(title.clone(), item.span(), table, self.notes))
            }
            other => {
                let why = format!("`{}` must hold tables, not {}", self.key, kind(other));
                self.notes.add(item.span(), why, hint());
                None
            }
        };
        items.iter().filter_map(table).collect()
    }

    /// Reads an array of texts, of which only those after the first may be empty.
    pub(super) fn texts(&self, example: &str) -> Option<Vec<&'a str>> {
        let hint = || Some(format!("write {example}"));
        let DeValue::Array(items) = self.value else {
            self.wrong("an array of strings", hint());
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::String(text) if text.contains('\0') => {
                    let why = format!("`{}` has a NUL character", self.key);
                    self.notes.add(item.span(), why, None);
                }
                DeValue::String(text) => texts.push(&**text),
                other => {
                    let why = format!("`{}` must hold strings, not {}", self.key, kind(other));
                    self.notes.add(item.span(), why, hint());
                }
            }
        }
        if texts.len() < items.len() {
            return None;
        }
        if texts.first().is_none_or(|first| first.trim().is_empty()) {
            self.notes.add(self.span.clone(), format!("`{}` is empty", self.key), hint());
            return None;
        }
        Some(texts)
    }

    /// Reads an array of names, none of them empty.
    pub(super) fn names(&self, example: &str) -> Option<Vec<&'a str>> {
        let names = self.texts(example)?;
        if names.iter().any(|name| name.trim().is_empty()) {
            let why = format!("a name in `{}` is empty", self.key);
            self.notes.hinted(self.span.clone(), why, format!("write {example}"));
            return None;
        }
        Some(names)
    }

    /// Reads an array of names, each there once.
    pub(super) fn distinct(&self, example: &str) -> Option<Vec<&'a str>> {
        let names = self.names(example)?;
        let mut seen = HashSet::new();
        let Some(twice) = names.iter().find(|name| !seen.insert(**name)) else {
            return Some(names);
        };
        let why = format!("`{}` comes twice in `{}`", twice.escape_debug(), self.key);
        self.notes.hinted(self.span.clone(), why, "name each value once");
        None
    }

    /// Reads any value as JSON; a date or time becomes its text.
    pub(super) fn json(&self) -> Option<Value> {
        let value = json(self.value);
        if value.is_none() {
            let why = format!("`{}` has a number that JSON can't hold", self.key);
            self.notes.add(self.span.clone(), why, None);
        }
        value
    }
}

/// Reads a text that an event can carry as its type or topic.
pub(super) fn event_name<'a>(field: &Field<'a>, what: &'static str) -> Option<&'a str> {
    let text = field.text()?;
    check_name(what, text).map_err(|e| field.refused(&e)).ok()?;
    Some(text)
}

/// Tells what is absent, `Some(None)`, from what is there and wrong, `None`.
pub(super) fn whole<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    field.map_or(Some(None), |value| value.map(Some))
}

/// Resolves a path of the file from its folder, without `.` on the way.
pub(super) fn from_folder(folder: &Path, path: &str) -> PathBuf {
    folder.join(path).components().collect()
}

/// Names the type of a value, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::from(&**text),
        DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) => n.into(),
            Err(_) => u64::from_str_radix(n.as_str(), n.radix()).ok()?.into(),
        },
        DeValue::Float(x) => serde_json::Number::from_f64(x.as_str().parse().ok()?)?.into(),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| key.span().start);
            let pair = |(key, value): (&Key<'_>, &Spanned<DeValue<'_>>)| {
                Some((key.get_ref().to_string(), json(value.get_ref())?))
            };
            Value::Object(entries.into_iter().map(pair).collect::<Option<Map<_, _>>>()?)
        }
    })
}
