//! Tables of an app file, read key by key; what nobody asked for is a mistake.

use super::problem::Notes;
use crate::error::nearest;
use std::{cell::RefCell, ops::Range};
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

/// A key as the parser keeps it, with its place.
pub(super) type Key<'a> = Spanned<DeString<'a>>;

/// A table under a reader: it notes every key that is asked for, and so knows the unknown ones.
#[derive(Debug)]
pub(super) struct Table<'a> {
    // As messages name it: `[steps.charge]`, `[[on]]`.
    pub(super) title: String,
    // Where it begins; a missing key is told there.
    pub(super) span: Range<usize>,
    pub(super) notes: &'a Notes<'a>,
    fields: Vec<Field<'a>>,
    asked: RefCell<Vec<&'static str>>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) key: &'a str,
    pub(super) key_span: Range<usize>,
    pub(super) value: &'a DeValue<'a>,
    pub(super) span: Range<usize>,
    pub(super) notes: &'a Notes<'a>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        title: impl Into<String>,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        notes: &'a Notes<'a>,
    ) -> Self {
        let field = |(key, value): (&'a Key<'a>, &'a Spanned<DeValue<'a>>)| Field {
            key: key.get_ref(),
            key_span: key.span(),
            value: value.get_ref(),
            span: value.span(),
            notes,
        };
        let mut fields: Vec<_> = table.iter().map(field).collect();
        fields.sort_by_key(|field| field.key_span.start);
        Self { title: title.into(), span, notes, fields, asked: RefCell::default() }
    }

    /// Returns the field of that key.
    pub(super) fn take(&self, key: &'static str) -> Option<Field<'a>> {
        self.asked.borrow_mut().push(key);
        self.fields.iter().find(|field| field.key == key).cloned()
    }

    /// Returns the field of the first of these names that is there; having two is a mistake.
    pub(super) fn one_of(&self, names: &[&'static str]) -> Option<Field<'a>> {
        let mut found: Vec<_> = names.iter().filter_map(|name| self.take(name)).collect();
        if let [first, second, ..] = &found[..] {
            let why = format!("`{}` and `{}` say the same", first.key, second.key);
            first.rivals(second, why, "keep one of them");
        }
        if found.is_empty() { None } else { Some(found.swap_remove(0)) }
    }

    /// Returns the field of that key, whose absence is a mistake; `example` shows how to write it.
    pub(super) fn need(&self, key: &'static str, example: &str) -> Option<Field<'a>> {
        let field = self.take(key);
        if field.is_none() {
            let why = format!("{} has no `{key}`", self.title);
            self.notes.hinted(self.span.clone(), why, format!("add {example}"));
        }
        field
    }

    /// Returns the fields nobody asked for, in the file's order.
    pub(super) fn rest(&self) -> impl Iterator<Item = &Field<'a>> {
        self.fields.iter().filter(|field| !self.asked.borrow().contains(&field.key))
    }

    /// Returns all fields, for tables whose keys are the user's names, in the file's order.
    pub(super) fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(&self) {
        let known = self.asked.borrow().clone();
        for field in self.rest() {
            let why = format!("`{}` is not a key of {}", field.key.escape_debug(), self.title);
            self.notes.hinted(field.key_span.clone(), why, suggest(field.key, &known));
        }
    }
}

impl Field<'_> {
    /// Notes that this field and another can't both be there, where the later one stands.
    pub(super) fn rivals(&self, other: &Self, why: String, hint: &str) {
        let (first, later) = match self.key_span.start < other.key_span.start {
            true => (self, other),
            false => (other, self),
        };
        let other = format!("`{}` is here", first.key);
        self.notes.also(later.key_span.clone(), why, hint, (&first.key_span, &other));
    }
}

/// What people write from habit, and the keys they mean, if the table has them.
const HABITS: [(&str, &[&str]); 17] = [
    ("payload", &["payload_field"]),
    ("event", &["type", "type_field"]),
    ("type", &["type_field"]),
    ("file", &["path"]),
    ("retries", &["retry"]),
    ("attempts", &["max_attempts", "retry"]),
    ("cmd", &["command"]),
    ("http", &["post"]),
    ("url", &["post"]),
    ("inputs", &["input"]),
    ("workers", &["max_workers"]),
    ("statuses", &["status"]),
    ("steps", &["flow"]),
    ("concurrency", &["limit"]),
    ("rate_limit", &["rate"]),
    ("logging", &["log"]),
    ("key", &["by"]),
];

fn habit(name: &str, known: &[&str]) -> Option<&'static str> {
    let (_, meant) = HABITS.iter().find(|(habit, _)| *habit == name)?;
    meant.iter().copied().find(|key| known.contains(key))
}

/// Names the known name nearest to `name`, if one is near, and all that are known.
pub(super) fn suggest(name: &str, known: &[&str]) -> String {
    let all = known.join(", ");
    match habit(name, known).or_else(|| nearest(name, known.iter().copied())) {
        Some(near) => format!("did you mean `{near}`? Known: {all}"),
        None => format!("known: {all}"),
    }
}
