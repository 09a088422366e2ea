//! The thread that reads a file or stdin and makes batches of events of its lines.

use super::{
    lines::{Line, Lines},
    record::Record,
};
use crate::{
    backend::{Advance, Outgoing, Position},
    error::{Error, ErrorKind, Result},
    event::{Event, EventBuilder},
    id::derived_id,
};
use serde_json::json;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::Xxh3;

/// The longest line that can become an event, in bytes.
pub const LINE_MAX: usize = 16 * 1024 * 1024;

/// How much of a line that can't become an event is kept, in bytes.
pub const HEAD_MAX: usize = 1024;

/// The type and topic under which a line that can't become an event is kept.
pub const REJECTED: &str = "railbus.rejected";

/// A batch ends at whichever comes first, or when nothing more is there at the moment.
const BATCH_LINES: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

/// How much of a prefix is checked at once.
const BLOCK: usize = 256 * 1024;

/// Where lines come from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Stdin,
    /// A named pipe or a device.
    Stream(PathBuf),
    File(PathBuf),
}

impl Origin {
    /// Tells whether it can be read again from any place.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Returns what messages and dead letters call it.
    fn label(&self) -> String {
        match self {
            Self::Stdin => "stdin".to_owned(),
            Self::Stream(path) | Self::File(path) => path.display().to_string(),
        }
    }

    fn source(&self) -> String {
        let name = match self {
            Self::Stdin => None,
            Self::Stream(path) | Self::File(path) => path.file_name(),
        };
        format!("ndjson:{}", name.map_or_else(|| "stdin".into(), |name| name.to_string_lossy()))
    }
}

/// What a reader is to do.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) name: Arc<str>,
    pub(super) origin: Origin,
    pub(super) record: Record,
}

/// Where the batches go: at the end an empty one, or an error.
pub(super) type Batches = mpsc::Sender<Result<Vec<Outgoing>>>;

impl Task {
    /// Reads from `position` to the end, or until nobody takes the batches; `ready` tells once the
    /// place is found and what lies before it is what was read.
    pub(super) fn run(
        self,
        position: Option<Position>,
        ready: oneshot::Sender<Result<()>>,
        batches: Batches,
    ) {
        let lines = match self.open(position, &batches) {
            Ok(lines) => lines,
            Err(e) => {
                // Whoever waits for the place is told so, else whoever waits for events.
                let _ = ready.send(Err(e.clone()));
                let _ = batches.blocking_send(Err(e));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        let (from, label, source) = (lines.offset(), self.origin.label(), self.origin.source());
        let (batch, bytes) = (Vec::new(), 0);
        let mut reader = Reader { task: self, label, source, lines, batches, batch, bytes, from };
        // A reader without anyone who takes its batches is done.
        let _ = reader.read();
    }

    fn open(&self, position: Option<Position>, batches: &Batches) -> Result<AnyLines> {
        let path = match &self.origin {
            Origin::Stdin => {
                return Ok(Lines::new(Box::new(io::stdin()), LINE_MAX, 0, Xxh3::new()));
            }
            Origin::Stream(path) | Origin::File(path) => path,
        };
        let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
        let (mut hash, mut offset) = (Xxh3::new(), 0);
        if let (Some(position), true) = (position, self.origin.is_file()) {
            offset = position.offset;
            let read = hash_prefix(&mut file, offset, &mut hash, batches);
            let read = read.map_err(|e| unreadable(path, e))?;
            if read < offset {
                let why = format!("the file has {read} bytes; {offset} were read from it before");
                return Err(changed(path, why));
            }
            if hash.digest() != position.fingerprint {
                let why = format!("the file's first {offset} bytes are not what was read before");
                return Err(changed(path, why));
            }
        }
        Ok(Lines::new(Box::new(file), LINE_MAX, offset, hash))
    }
}

type AnyLines = Lines<Box<dyn Read>>;

/// Nobody takes the batches any more.
struct Abandoned;

struct Reader {
    task: Task,
    label: String,
    source: String,
    lines: AnyLines,
    batches: Batches,
    batch: Vec<Outgoing>,
    bytes: usize,
    // Where the next event's advance starts: behind the last event, before any empty lines.
    from: u64,
}

impl Reader {
    fn read(&mut self) -> Result<(), Abandoned> {
        loop {
            while let Some(line) = self.lines.take() {
                self.keep(line);
                if self.batch.len() >= BATCH_LINES || self.bytes >= BATCH_BYTES {
                    self.flush()?;
                }
            }
            // The next read may wait for ever.
            self.flush()?;
            match self.lines.fill() {
                Ok(true) if self.batches.is_closed() => return Err(Abandoned),
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    let e = unreadable(Path::new(&self.label), e);
                    return self.send(Err(e));
                }
            }
        }
        if let Some(line) = self.lines.rest() {
            self.keep(line);
        }
        self.flush()?;
        self.send(Ok(Vec::new()))
    }

    fn flush(&mut self) -> Result<(), Abandoned> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.send(Ok(batch))
    }

    fn send(&self, batch: Result<Vec<Outgoing>>) -> Result<(), Abandoned> {
        self.batches.blocking_send(batch).map_err(|_| Abandoned)
    }

    /// Makes an event of the line, unless it is empty.
    fn keep(&mut self, line: Line) {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        let Line { offset, text, too_long } = line;
        let text = if offset == 0 { text.strip_prefix(MARK).unwrap_or(&text) } else { &text };
        let text = text.trim_ascii();
        if text.is_empty() && too_long.is_none() {
            return;
        }
        let read = match too_long {
            Some(bytes) => Err(format!("it has {bytes} bytes; at most {LINE_MAX} are allowed")),
            None => self.task.record.read(text, |event| self.identify(event, offset)),
        };
        let (event, rejected) = match read {
            Ok(event) => (event, None),
            Err(why) => {
                // The payload has the whole path; a reason is read in a list.
                let name = self.label.rsplit('/').next().unwrap_or(&self.label);
                let reason = format!("{name}, line at byte {offset}: {why}");
                (self.reject(offset, text, &reason), Some(reason))
            }
        };
        self.bytes += text.len();
        let position = self.advance();
        self.batch.push(Outgoing { event, position, rejected, run: None });
    }

    fn identify(&self, event: EventBuilder, offset: u64) -> EventBuilder {
        let event = event.source(&*self.source);
        if self.task.origin.is_file() {
            // The same line gets the same id, however often it is read.
            event.id(derived_id(&self.task.name, &offset.to_string()))
        } else {
            event
        }
    }

    fn reject(&self, offset: u64, text: &[u8], reason: &str) -> Event {
        let head = String::from_utf8_lossy(&text[..text.len().min(HEAD_MAX)]);
        let payload = json!({"file": self.label, "offset": offset, "reason": reason, "head": head});
        self.identify(Event::new(REJECTED), offset).payload(payload)
    }

    fn advance(&mut self) -> Option<Advance> {
        if !self.task.origin.is_file() {
            return None;
        }
        let to = Position { offset: self.lines.offset(), fingerprint: self.lines.fingerprint() };
        let from = std::mem::replace(&mut self.from, to.offset);
        Some(Advance { input: self.task.name.clone(), from, to })
    }
}

/// Reads `bytes` bytes, or up to the end; returns how many there were.
fn hash_prefix(file: &mut File, bytes: u64, hash: &mut Xxh3, batches: &Batches) -> io::Result<u64> {
    let mut prefix = file.take(bytes);
    let mut block = vec![0; BLOCK];
    let mut read = 0;
    // If nobody waits any more, whatever comes out is not looked at.
    while !batches.is_closed() {
        match prefix.read(&mut block) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&block[..n]);
                read += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

/// Builds the error for a file that can't be read.
pub(super) fn unreadable(path: &Path, error: io::Error) -> Error {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            (ErrorKind::NotFound, "check the input's `path`; a relative one starts at the app file")
        }
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::Denied, "let the user this runs as read the file")
        }
        _ => (ErrorKind::Unavailable, "check the disk and the file"),
    };
    let error = Error::new(kind, "ndjson", "cannot read the file").because(error);
    error.with("path", path.display()).hint(hint)
}

fn changed(path: &Path, why: String) -> Error {
    Error::new(ErrorKind::Changed, "ndjson", why).with("path", path.display()).hint(
        "a file that is being read may only grow; to start over, delete the database file, or give \
         the input another file",
    )
}
