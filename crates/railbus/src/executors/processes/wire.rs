//! Frames: how a program and its workers speak over pipes.
//!
//! A frame is a mark with its kind, its length, a header in JSON, and parts: named JSON texts that
//! are passed on as they are, without being read.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::UNIX_EPOCH,
};

/// The name that a worker is started by, in place of the program's: what it starts itself does not
/// take it over, as it would a variable of the environment.
pub(crate) const NAME: &str = "railbus-worker";

/// Changes with the frames.
pub(crate) const PROTOCOL: u32 = 1;

/// Longer than this a frame may not be, so that no length that is garbage is believed.
const LENGTH_MAX: usize = 1 << 30;

const MARK: [u8; 3] = [0, b'R', b'B'];
const HEAD: usize = 8;

/// What a worker is told when it is started.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) protocol: u32,
    pub(crate) build: String,
    pub(crate) memory_limit: Option<u64>,
}

/// The first that a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    pub(crate) build: String,
    pub(crate) problem: Option<String>,
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 1,
    Task = 2,
    Answer = 3,
    Log = 4,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Hello, Self::Task, Self::Answer, Self::Log].into_iter().find(|k| *k as u8 == byte)
    }
}

/// One message.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    header: Bytes,
    pub(crate) parts: Vec<(String, Bytes)>,
}

impl Frame {
    /// Writes a message.
    ///
    /// # Errors
    /// Returns why it can't be written.
    pub(crate) fn write<'a>(
        kind: Kind,
        header: &impl Serialize,
        parts: impl IntoIterator<Item = (&'a str, &'a Bytes)>,
    ) -> Result<Vec<u8>, String> {
        let mut frame = vec![0; HEAD + 4];
        serde_json::to_writer(&mut frame, header).map_err(|e| e.to_string())?;
        let header = frame.len() - HEAD - 4;
        for (name, text) in parts {
            for piece in [name.as_bytes(), text] {
                // A length that does not fit is too long a frame as well.
                frame.put_u32_le(u32::try_from(piece.len()).unwrap_or(u32::MAX));
                frame.put_slice(piece);
            }
        }
        let length = frame.len() - HEAD;
        if length > LENGTH_MAX {
            return Err(format!("{length} bytes are more than {LENGTH_MAX}, which a worker takes"));
        }
        let mut head = &mut frame[..HEAD + 4];
        head.put_slice(&MARK);
        head.put_u8(kind as u8);
        // Both fit: they are not longer than the limit.
        head.put_u32_le(length as u32);
        head.put_u32_le(header as u32);
        Ok(frame)
    }

    /// Takes the next message off what was read; none while it is not whole.
    ///
    /// # Errors
    /// Returns what is there instead of a message.
    pub(crate) fn take(read: &mut BytesMut) -> Result<Option<Self>, String> {
        let marked = read.len().min(MARK.len());
        if read[..marked] != MARK[..marked] {
            return Err(garbage(read));
        }
        if read.len() < HEAD {
            return Ok(None);
        }
        let (kind, length) = (Kind::of(read[3]), (&read[4..HEAD]).get_u32_le() as usize);
        let (Some(kind), 4..=LENGTH_MAX) = (kind, length) else { return Err(garbage(read)) };
        if read.len() < HEAD + length {
            read.reserve(HEAD + length - read.len());
            return Ok(None);
        }
        read.advance(HEAD);
        let mut body = read.split_to(length).freeze();
        let mut piece = || {
            let length = body.try_get_u32_le().ok()? as usize;
            (length <= body.len()).then(|| body.split_to(length))
        };
        let header = piece().ok_or("a message without a header")?;
        let mut parts = Vec::new();
        while let Some(name) = piece() {
            let text = piece().ok_or("a message without its end")?;
            parts.push((String::from_utf8_lossy(&name).into_owned(), text));
        }
        Ok(Some(Self { kind, header, parts }))
    }

    /// Reads the header.
    ///
    /// # Errors
    /// Returns what is wrong with it.
    pub(crate) fn header<T: for<'de> Deserialize<'de>>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.header).map_err(|e| format!("a message is unreadable: {e}"))
    }
}

fn garbage(read: &[u8]) -> String {
    let start = String::from_utf8_lossy(&read[..read.len().min(200)]);
    format!("it wrote `{}` where a message was due", start.escape_debug())
}

/// Returns where the program file was when it was first asked for, which is when steps are
/// registered: a file that was replaced since is found all the same, and told apart.
pub(crate) fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(|| env::current_exe().ok()).as_deref()
}

/// Returns what a worker is started from: the program's file, or where that is gone, what the
/// system keeps of it while it runs.
pub(crate) fn to_start() -> Option<&'static Path> {
    let kept = Path::new("/proc/self/exe");
    match program() {
        Some(file) if file.exists() || !kept.exists() => Some(file),
        // Opened by the child, in which it still is what runs here.
        _ => kept.exists().then_some(kept),
    }
}

/// Returns what tells this program file from another: its version, its length and when it was
/// written.
pub(crate) fn build() -> &'static str {
    static BUILD: OnceLock<String> = OnceLock::new();
    BUILD.get_or_init(|| {
        // The file that runs here, also if another took its place since.
        let own = fs::metadata("/proc/self/exe");
        let own = own.or_else(|_| fs::metadata(env::current_exe()?));
        let file = own.map(|file| {
            let written = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            format!("{}-{}", file.len(), written.unwrap_or_default().as_nanos())
        });
        format!("{}-{}", env!("CARGO_PKG_VERSION"), file.unwrap_or_default())
    })
}
