//! Payloads as they come: from an argument, a file or the lines of stdin, each checked to be JSON.

use railbus::error::{Error, ErrorKind, Result};
use serde_json::value::RawValue;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};
use tokio::sync::mpsc;

const OPERATION: &str = "publish";

/// A batch ends at whichever comes first, or when no further line is there at the moment.
const BATCH_LINES: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

/// How much of stdin is read at once.
const BLOCK: usize = 64 * 1024;

/// A JSON document that is kept as it was written.
pub(super) type Payload = Box<RawValue>;

/// The payload of an event that was given none.
pub(super) fn null() -> Payload {
    RawValue::NULL.to_owned()
}

/// Where a text stops being JSON, and why.
#[derive(Debug)]
pub(super) struct NotJson {
    line: usize,
    column: usize,
    why: String,
}

impl NotJson {
    /// Builds the error; `what` says where the text is from.
    pub(super) fn of(self, what: &str) -> Error {
        let Self { line, column, why } = self;
        let why = format!("{what} is not valid JSON, line {line}, column {column}: {why}");
        Error::new(ErrorKind::Decode, OPERATION, why)
    }

    fn of_line(self, number: u64) -> Error {
        let Self { column, why, .. } = self;
        let why = format!("line {number} of stdin is not valid JSON, column {column}: {why}");
        Error::new(ErrorKind::Decode, OPERATION, why)
    }
}

/// Checks that `text` is one JSON document.
pub(super) fn parse(text: &[u8]) -> Result<Payload, NotJson> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|e| {
        let before = &text[..e.valid_up_to()];
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        let column = before.len() - start + 1;
        NotJson { line, column, why: "it is not UTF-8".into() }
    })?;
    serde_json::from_str(text).map_err(|e| {
        let (mut line, mut column, why) = (e.line(), e.column(), e.to_string());
        let place = format!(" at line {line} column {column}");
        let why = why.strip_suffix(&place).unwrap_or(&why).to_owned();
        if column == 0 {
            // It was a line end that should not have come: that is where the line before ends.
            line = line.saturating_sub(1).max(1);
            column = 1 + text.lines().nth(line - 1).map_or(0, str::len);
        }
        NotJson { line, column, why }
    })
}

/// Reads a file of at most `max` bytes.
pub(super) fn read_file(path: &Path, max: usize) -> Result<Vec<u8>> {
    let failed = |e: io::Error| {
        let kind = match e.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, OPERATION, "the payload's file can't be read")
            .with("file", path.display())
            .because(e)
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(max as u64 + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() > max {
        let why = format!("the payload has more than {max} bytes");
        return Err(Error::new(ErrorKind::TooLarge, OPERATION, why)
            .with("file", path.display())
            .hint("publish a reference to where the data is kept"));
    }
    Ok(text)
}

/// Lines of stdin that follow each other, each with its number, from 1.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) payloads: Vec<(u64, Payload)>,
    /// What is wrong with the line after them: nothing is read beyond it.
    pub(super) broken: Option<Error>,
    bytes: usize,
}

/// Reads stdin in a thread of its own, a few batches ahead of whoever takes them.
pub(super) fn read_stdin(max: usize) -> mpsc::Receiver<Batch> {
    let (batches, taken) = mpsc::channel(1);
    // Not awaited: a read of stdin may wait for ever.
    tokio::task::spawn_blocking(move || read_lines(io::stdin(), max, &batches));
    taken
}

fn read_lines(input: impl Read, max: usize, batches: &mpsc::Sender<Batch>) {
    let mut reader = BufReader::with_capacity(BLOCK, input);
    let (mut batch, mut number) = (Batch::default(), 0);
    loop {
        number += 1;
        match read_line(&mut reader, max, number) {
            Ok(None) => break,
            Ok(Some(text)) if text.trim_ascii().is_empty() => {}
            Ok(Some(text)) => match parse(&text) {
                Ok(payload) => {
                    batch.bytes += text.len();
                    batch.payloads.push((number, payload));
                }
                Err(e) => batch.broken = Some(e.of_line(number)),
            },
            Err(e) => batch.broken = Some(e),
        }
        if batch.broken.is_some() {
            break;
        }
        let full = batch.payloads.len() >= BATCH_LINES || batch.bytes >= BATCH_BYTES;
        // The next line may be long in coming.
        if (full || !reader.buffer().contains(&b'\n'))
            && !batch.payloads.is_empty()
            && batches.blocking_send(std::mem::take(&mut batch)).is_err()
        {
            return;
        }
    }
    // Whoever no longer takes batches knows why.
    let _ = batches.blocking_send(batch);
}

/// Reads a line, of `max` bytes at most; none at the end.
fn read_line(reader: &mut impl BufRead, max: usize, number: u64) -> Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let read = reader.take(max as u64 + 1).read_until(b'\n', &mut text);
    match read {
        Ok(0) => Ok(None),
        Ok(_) if text.last() != Some(&b'\n') && text.len() > max => {
            let why = format!("line {number} of stdin has more than {max} bytes");
            Err(Error::new(ErrorKind::TooLarge, OPERATION, why))
        }
        Ok(_) => Ok(Some(text)),
        Err(e) => {
            let why = format!("line {number} of stdin can't be read");
            Err(Error::new(ErrorKind::Unavailable, OPERATION, why).because(e))
        }
    }
}
