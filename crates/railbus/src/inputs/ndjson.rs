//! Newline-delimited JSON from a file or stdin.

use super::{
    reader::{Origin, Task, unreadable},
    record::{Record, Template},
};
use crate::{
    backend::{Outgoing, Position},
    error::{Error, ErrorKind, Result},
    input::EventInput,
};
use async_trait::async_trait;
use std::{fs, path::Path};
use tokio::sync::{mpsc, oneshot};

pub use super::reader::{HEAD_MAX, LINE_MAX, REJECTED};

/// Batches read ahead of who asks for them.
const AHEAD: usize = 2;

/// An input that makes an event of each line of a file, or of stdin.
///
/// Empty lines, a byte order mark at the start and `\r` before a line end count for nothing; the
/// last line needs no end. An event's id is derived from the file's real path and the line's
/// offset, its payload is the text as it stands in the line. A line that can't become an event
/// comes out rejected, as an event of type [`REJECTED`] whose payload has `file`, `offset`,
/// `reason` and the line's `head`: one that is not UTF-8, not a JSON object, nested deeper than
/// 127 levels or longer than [`LINE_MAX`]; whose type is missing or no text; whose payload field
/// or a field of the topic is missing; or whose type or topic breaks an event's limits.
///
/// A file resumes where it was left off if what lies before is what was read. Stdin, and whatever
/// else is no regular file, can't resume: its events have new ids and no position.
///
/// Memory holds a few batches of about 1 MiB, or as many lines of [`LINE_MAX`].
///
/// # Examples
/// ```
/// use railbus::{input::EventInput, inputs::ndjson::{HEAD_MAX, LINE_MAX, Ndjson, REJECTED}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("orders.ndjson");
/// let line = r#"{"event": "order.placed", "order": {"lines": 2}}"#;
/// std::fs::write(&path, format!("{line}\nno JSON\n")).unwrap();
///
/// let input = Ndjson::new(&path)?.type_field("event").payload_field("order");
/// let mut input = input.topic("shop:{event}")?;
/// assert!(input.can_resume());
/// input.resume(None).await?;
/// let lines = input.next().await?;
/// let order = &lines[0].event;
/// assert_eq!((order.topic(), order.get("lines")), ("shop:order.placed", Some(2)));
/// assert_eq!(lines[1].event.event_type(), REJECTED);
/// assert!(lines[1].event.get::<&str>("head").unwrap().len() < HEAD_MAX && HEAD_MAX < LINE_MAX);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Ndjson {
    task: Task,
    reading: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    batches: mpsc::Receiver<Result<Vec<Outgoing>>>,
    // What every call answers after the last batch.
    over: Option<Result<()>>,
}

impl Ndjson {
    /// Creates an input of the file at `path`; `-` is stdin.
    ///
    /// A line's type is its `type`, its payload the whole line, its topic the type.
    ///
    /// # Errors
    /// Returns an error that names the path if nothing is there, it is a folder, or it may not be
    /// looked at.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (name, origin) = if path == Path::new("-") {
            ("-".to_owned(), Origin::Stdin)
        } else {
            let about = fs::metadata(path).map_err(|e| unreadable(path, e))?;
            if about.is_dir() {
                let error = Error::new(ErrorKind::Config, "ndjson", "this is a folder, not a file");
                return Err(error.with("path", path.display()).hint("name a file in it"));
            }
            if about.is_file() {
                let real = path.canonicalize().map_err(|e| unreadable(path, e))?;
                (real.to_string_lossy().into_owned(), Origin::File(real))
            } else {
                (path.to_string_lossy().into_owned(), Origin::Stream(path.to_owned()))
            }
        };
        let record = Record { type_field: "type".to_owned(), payload_field: None, topic: None };
        Ok(Self { task: Task { name: name.into(), origin, record }, reading: None })
    }

    /// Sets which field is the type (default: `type`); a literal key wins over a dotted path.
    #[must_use]
    pub fn type_field(mut self, path: impl Into<String>) -> Self {
        self.task.record.type_field = path.into();
        self
    }

    /// Sets which field is the payload (default: the whole line).
    #[must_use]
    pub fn payload_field(mut self, path: impl Into<String>) -> Self {
        self.task.record.payload_field = Some(path.into());
        self
    }

    /// Sets the topic (default: the type): a text with fields of the line in braces, such as
    /// `github:{event}`; `{{` and `}}` are braces themselves.
    ///
    /// # Errors
    /// Returns a config error if braces don't match or hold nothing.
    pub fn topic(mut self, template: &str) -> Result<Self> {
        self.task.record.topic = Some(Template::parse(template)?);
        Ok(self)
    }

    /// Tells whether it can go on where it left off.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        self.task.origin.is_file()
    }

    /// Starts a thread that reads from `position` on; `ready` tells once that place is found.
    ///
    /// A thread of its own, since a read of stdin can't be cancelled and would hold up the end of
    /// the runtime.
    fn read_from(
        &self,
        position: Option<Position>,
        ready: oneshot::Sender<Result<()>>,
    ) -> Result<Reading> {
        let (sender, batches) = mpsc::channel(AHEAD);
        let task = self.task.clone();
        let read = move || task.run(position, ready, sender);
        std::thread::Builder::new().name("railbus-ndjson".into()).spawn(read).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "ndjson", "cannot start a thread").because(e)
        })?;
        Ok(Reading { batches, over: None })
    }
}

#[async_trait]
impl EventInput for Ndjson {
    fn name(&self) -> &str {
        &self.task.name
    }

    fn is_endless(&self) -> bool {
        false
    }

    async fn resume(&mut self, position: Option<Position>) -> Result<()> {
        let (ready, is_ready) = oneshot::channel();
        if !self.can_resume() {
            if self.reading.is_none() {
                self.reading = Some(self.read_from(None, ready)?);
            }
            return Ok(());
        }
        self.reading = None;
        let reading = self.read_from(position, ready)?;
        is_ready.await.unwrap_or_else(|_| Err(broken()))?;
        self.reading = Some(reading);
        Ok(())
    }

    async fn next(&mut self) -> Result<Vec<Outgoing>> {
        if self.reading.is_none() {
            self.resume(None).await?;
        }
        let Some(reading) = &mut self.reading else { return Err(broken()) };
        if let Some(over) = &reading.over {
            return over.clone().map(|()| Vec::new());
        }
        let batch = reading.batches.recv().await.unwrap_or_else(|| Err(broken()));
        match &batch {
            Ok(events) if events.is_empty() => reading.over = Some(Ok(())),
            Ok(_) => {}
            Err(e) => reading.over = Some(Err(e.clone())),
        }
        batch
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Internal, "ndjson", "the reading thread ended early")
}
