//! What is wrong with an app file: every mistake at once, each with its place and a hint.

use crate::error::Error;
use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    error::Error as StdError,
    fmt,
    ops::Range,
};

/// Where a mistake stands.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// The bytes it covers in the file, without a byte order mark.
        span: Range<usize>,
    },
    /// In the environment, in the variable of this name.
    Variable(String),
}

impl Place {
    /// Returns line and column, from 1; `None` for a place in the environment.
    #[must_use]
    pub fn line_column(&self) -> Option<(usize, usize)> {
        match self {
            Self::File { line, column, .. } => Some((*line, *column)),
            Self::Variable(_) => None,
        }
    }

    /// Returns it as messages begin: `app.toml:12:8`, or the name of the variable.
    #[must_use]
    pub fn in_file(&self, file: &str) -> String {
        match self {
            Self::File { line, column, .. } => format!("{file}:{line}:{column}"),
            Self::Variable(name) => name.clone(),
        }
    }
}

/// A mistake in an app file, or in the environment that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// Where it stands.
    pub place: Place,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// A second place that has to do with it, and how: where a name was first given, say.
    pub also: Option<(Place, String)>,
}

impl Problem {
    /// Returns line and column, from 1; `None` for a mistake in the environment.
    #[must_use]
    pub fn line_column(&self) -> Option<(usize, usize)> {
        self.place.line_column()
    }
}

/// Every mistake that was found in an app file, in the order of their places; never empty.
///
/// `Display` writes `app.toml:12:8: message`, and below it a line with the second place, if there is
/// one, and a line with the hint.
///
/// # Examples
/// ```
/// use railbus::app::{AppSpec, LoadError, Place, Problem, Problems};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("app.toml");
/// std::fs::write(&path, "bus.url = \"memroy:\"\n").unwrap();
/// let Err(LoadError::Problems(problems)) = AppSpec::load(&path, std::iter::empty()) else {
///     panic!("it loads");
/// };
/// let problems: Problems = problems;
/// assert!(problems.file().ends_with("app.toml"));
/// let backend = |problem: &&Problem| problem.message.contains("memroy");
/// let problem = problems.list().iter().find(backend).unwrap();
/// assert_eq!(problem.line_column(), Some((1, 11)));
/// assert!(matches!(problem.place, Place::File { line: 1, .. }));
/// assert_eq!(problem.place.in_file("app.toml"), "app.toml:1:11");
/// ```
#[derive(Clone, Debug)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
}

impl Problems {
    /// Returns the path of the file, as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the mistakes: those of the environment first, then from the top of the file.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "\n" })?;
            write!(f, "{}: {}", problem.place.in_file(&self.file), problem.message)?;
            if let Some((place, why)) = &problem.also {
                write!(f, "\n  {}: {why}", place.in_file(&self.file))?;
            }
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl StdError for Problems {}

/// Why an app file was not loaded.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum LoadError {
    /// The file can't be read as text: missing, a folder, too large, not UTF-8.
    File(Error),
    /// The file or the environment has mistakes.
    Problems(Problems),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "{error}"),
            Self::Problems(problems) => write!(f, "{problems}"),
        }
    }
}

impl StdError for LoadError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::File(error) => error.source(),
            Self::Problems(_) => None,
        }
    }
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

/// Gathers mistakes while a file is read; shared by all its readers.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    pub(super) text: &'a str,
    // Lines and columns are counted once, at the end, and from the top.
    list: RefCell<Vec<Note>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Note {
    at: At,
    message: String,
    hint: Option<String>,
    also: Option<(At, String)>,
}

/// Where something was said that may be a mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    Variable(String),
    Bytes(usize, usize),
}

impl From<&Range<usize>> for At {
    fn from(span: &Range<usize>) -> Self {
        Self::Bytes(span.start, span.end)
    }
}

impl<'a> Notes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, list: RefCell::default() }
    }

    /// Notes a mistake at `span` of the text.
    pub(super) fn add(&self, span: Range<usize>, message: impl Into<String>, hint: Option<String>) {
        self.push(At::Bytes(span.start, span.end), message.into(), hint);
    }

    /// Notes a mistake at `span`, with what to do about it.
    pub(super) fn hinted(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(span, message, Some(hint.into()));
    }

    /// Notes a mistake in an environment variable.
    pub(super) fn variable(&self, name: &str, message: impl Into<String>, hint: Option<String>) {
        self.push(At::Variable(name.into()), message.into(), hint);
    }

    /// Notes what the library says is wrong with something that was said there.
    pub(super) fn refused(&self, at: &At, error: &Error) {
        let message = error.message().to_owned();
        self.push(at.clone(), message, error.advice().map(Into::into));
    }

    /// Notes a mistake at `span` that has to do with a second place.
    pub(super) fn also(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
        also: (&Range<usize>, &str),
    ) {
        let (at, message, hint) = (At::from(&span), message.into(), Some(hint.into()));
        let also = Some((also.0.into(), also.1.to_owned()));
        self.list.borrow_mut().push(Note { at, message, hint, also });
    }

    fn push(&self, at: At, message: String, hint: Option<String>) {
        self.list.borrow_mut().push(Note { at, message, hint, also: None });
    }

    /// Tells whether nothing was noted.
    pub(super) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// Returns the mistakes in order, each once; `None` if there are none.
    pub(super) fn into_problems(self, file: impl Into<String>) -> Option<Problems> {
        let mut notes = self.list.take();
        notes.sort();
        notes.dedup();
        let places = self.places(&notes);
        let place = |at| match at {
            At::Variable(name) => Place::Variable(name),
            At::Bytes(start, end) => {
                let (line, column) = places.get(&start).copied().unwrap_or((1, 1));
                Place::File { line, column, span: start..end }
            }
        };
        let problem = |Note { at, message, hint, also }| {
            let also = also.map(|(at, why)| (place(at), why));
            Problem { message, place: place(at), hint, also }
        };
        let list: Vec<_> = notes.into_iter().map(problem).collect();
        (!list.is_empty()).then(|| Problems { file: file.into(), list })
    }

    /// Returns line and column of every place in the text that was noted.
    fn places(&self, notes: &[Note]) -> HashMap<usize, (usize, usize)> {
        let also = |note: &Note| note.also.as_ref().map(|(at, _)| at.clone());
        let all = notes.iter().flat_map(|note| [Some(note.at.clone()), also(note)]);
        let starts = all.flatten().filter_map(|at| match at {
            At::Bytes(start, _) => Some(start),
            At::Variable(_) => None,
        });
        let (mut seen, mut line, mut column) = (0, 1, 1);
        let mut places = HashMap::new();
        for start in starts.collect::<BTreeSet<_>>() {
            for c in self.text.get(seen..start).unwrap_or_default().chars() {
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            seen = start;
            places.insert(start, (line, column));
        }
        places
    }
}
