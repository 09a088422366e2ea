//! The lines of a stream of any size, in bounded memory, with their offsets and a fingerprint.

use memchr::memchr;
use std::io::{self, Read};
use xxhash_rust::xxh3::Xxh3;

/// How much is read at once.
const BLOCK: usize = 256 * 1024;

/// How much of a line that is too long is kept.
const HEAD_MAX: usize = 1024;

/// What lies between two line ends.
#[derive(Debug)]
pub(super) struct Line {
    /// Where it starts.
    pub(super) offset: u64,
    /// Its bytes without the line end; the head alone if it is too long.
    pub(super) text: Vec<u8>,
    /// How many bytes it has, if they are more than a line may have.
    pub(super) too_long: Option<u64>,
}

/// Splits what a reader yields at each `\n`.
pub(super) struct Lines<R> {
    reader: R,
    max: usize,
    buffer: Vec<u8>,
    // In the buffer: where what was not given out starts, and up to where no line end was found.
    start: usize,
    scanned: usize,
    // The line under way if it is too long already: its head and its bytes so far.
    long: Option<Line>,
    // Of everything before `buffer[start]`.
    offset: u64,
    hash: Xxh3,
}

impl<R: Read> Lines<R> {
    /// Starts at `offset`, before which lies what `hash` has seen; lines may have `max` bytes.
    pub(super) fn new(reader: R, max: usize, offset: u64, hash: Xxh3) -> Self {
        let (buffer, long) = (Vec::new(), None);
        Self { reader, max, buffer, start: 0, scanned: 0, long, offset, hash }
    }

    /// Returns the offset behind the last line given out.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the fingerprint of everything before [`Lines::offset`].
    pub(super) fn fingerprint(&self) -> u64 {
        self.hash.digest()
    }

    /// Returns the next line that is complete in memory.
    pub(super) fn take(&mut self) -> Option<Line> {
        match memchr(b'\n', &self.buffer[self.scanned..]) {
            Some(at) => Some(self.end_line(self.scanned + at, 1)),
            None => {
                self.scanned = self.buffer.len();
                if self.long.is_some() || self.scanned - self.start > self.max {
                    self.give_up_text(self.scanned);
                }
                None
            }
        }
    }

    /// Returns what follows the last line end, once there is no more to read.
    pub(super) fn rest(&mut self) -> Option<Line> {
        let end = self.buffer.len();
        (self.long.is_some() || end > self.start).then(|| self.end_line(end, 0))
    }

    /// Reads a block; false if there is no more.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        if self.buffer.is_empty() {
            // What one long line needed is not held on to.
            self.buffer.shrink_to(2 * BLOCK);
        }
        let end = self.buffer.len();
        self.buffer.resize(end + BLOCK, 0);
        let read = loop {
            match self.reader.read(&mut self.buffer[end..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(end + *read.as_ref().unwrap_or(&0));
        read.map(|read| read > 0)
    }

    fn end_line(&mut self, end: usize, mark: usize) -> Line {
        if self.long.is_some() || end - self.start > self.max {
            self.give_up_text(end);
        }
        let line = self.long.take().unwrap_or_else(|| Line {
            offset: self.offset,
            text: self.buffer[self.start..end].to_vec(),
            too_long: None,
        });
        self.pass(end + mark);
        self.scanned = self.start;
        line
    }

    /// Forgets the text of the line up to `end`, but for its head.
    fn give_up_text(&mut self, end: usize) {
        let text = &self.buffer[self.start..end];
        let bytes = text.len() as u64;
        let offset = self.offset;
        let long = self.long.get_or_insert_with(|| Line {
            offset,
            text: text[..text.len().min(HEAD_MAX)].to_vec(),
            too_long: Some(0),
        });
        long.too_long = long.too_long.map(|so_far| so_far + bytes);
        self.pass(end);
    }

    fn pass(&mut self, end: usize) {
        self.hash.update(&self.buffer[self.start..end]);
        self.offset += (end - self.start) as u64;
        self.start = end;
    }
}
