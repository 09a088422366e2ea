//! Pipes that outlive the runtime they were used on.

use rustix::io::{Errno, read};
#[cfg(target_os = "linux")]
use rustix::{
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open},
    pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, pipe_with, splice},
};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::{
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
};
use tokio::{
    net::unix::pipe::{Receiver, Sender},
    runtime::{Handle, Id},
};

/// One end of a pipe, watched by the runtime that uses it now.
#[derive(Debug)]
pub(super) struct Pipe<T> {
    // None only while it changes its runtime, or if that failed.
    end: Option<T>,
    runtime: Id,
}

/// Up to how many bytes are one piece in a pipe of pieces.
pub(super) const PIECE_MAX: usize = 4096;

/// What a runtime can watch.
pub(super) trait End: Sized {
    fn watch(fd: OwnedFd) -> io::Result<Self>;
    fn let_go(self) -> io::Result<OwnedFd>;
}

impl End for Receiver {
    fn watch(fd: OwnedFd) -> io::Result<Self> {
        Self::from_owned_fd(fd)
    }

    fn let_go(self) -> io::Result<OwnedFd> {
        self.into_nonblocking_fd()
    }
}

impl End for Sender {
    fn watch(fd: OwnedFd) -> io::Result<Self> {
        Self::from_owned_fd(fd)
    }

    fn let_go(self) -> io::Result<OwnedFd> {
        self.into_nonblocking_fd()
    }
}

impl<T: End> Pipe<T> {
    /// Takes a pipe; called on a runtime.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { end: Some(watched(fd)?), runtime: Handle::current().id() })
    }

    /// Has it watched by the runtime of the caller.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let here = Handle::current().id();
        if here != self.runtime
            && let Some(end) = self.end.take()
        {
            self.end = Some(watched(end.let_go()?)?);
            self.runtime = here;
        }
        Ok(())
    }

    fn end(&self) -> io::Result<&T> {
        self.end.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Pipe<Receiver> {
    /// Reads what is there, at least a byte; 0 at its end.
    pub(super) async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let end = self.end()?;
        loop {
            match end.try_read(into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => end.readable().await?,
                other => return other,
            }
        }
    }
}

impl Pipe<Receiver> {
    /// Reads what is there, without asking the runtime whether there is anything; none if there is
    /// nothing yet.
    pub(super) fn read_now(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match read(self.end()?, into) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            other => Ok(Some(other?)),
        }
    }
}

impl Pipe<Sender> {
    /// Has what is written at once be read at once, a piece at a time, if it is short enough; tells
    /// whether this system can do that, and can take back what was not read.
    #[cfg(target_os = "linux")]
    pub(super) fn in_pieces(&self) -> bool {
        let in_pieces = || {
            let end = self.end().ok()?;
            fcntl_setfl(end, fcntl_getfl(end).ok()? | OFlags::DIRECT).ok()?;
            self.take_back()
        };
        in_pieces().is_some()
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn in_pieces(&self) -> bool {
        false
    }

    /// Writes a piece if there is room for it; tells whether there was.
    pub(super) fn post(&self, piece: &[u8]) -> bool {
        // Short pieces are written whole, or not at all.
        self.end().is_ok_and(|end| end.try_write(piece).is_ok())
    }

    /// Takes out again what nobody has read, so that nobody will; returns in how many pieces it
    /// was, or none where nothing can be taken out.
    #[cfg(target_os = "linux")]
    pub(super) fn take_back(&self) -> Option<usize> {
        // Its other end, once more.
        let other = format!("/proc/self/fd/{}", self.end().ok()?.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let other = open(other, flags, Mode::empty()).ok()?;
        let (aside, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        if fcntl_getpipe_size(&into).ok()? < fcntl_getpipe_size(&other).ok()? {
            return None;
        }
        // All at once: by pieces, whoever reads meanwhile might get one in between.
        match splice(&other, None, &into, None, 1 << 20, SpliceFlags::NONBLOCK) {
            Ok(1..) => {}
            Ok(0) | Err(Errno::AGAIN) => return Some(0),
            Err(_) => return None,
        }
        let (mut pieces, mut piece) = (0, [0; PIECE_MAX]);
        while let Ok(1..) = read(&aside, &mut piece) {
            pieces += 1;
        }
        Some(pieces)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn take_back(&self) -> Option<usize> {
        None
    }

    /// Writes all of it.
    pub(super) async fn write(&self, mut all: &[u8]) -> io::Result<()> {
        let end = self.end()?;
        while !all.is_empty() {
            match end.try_write(all) {
                Ok(written) => all = &all[written..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => end.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn watched<T: End>(fd: OwnedFd) -> io::Result<T> {
    // Nothing but a panic tells that a runtime does no I/O.
    catch_unwind(AssertUnwindSafe(|| T::watch(fd))).unwrap_or_else(|_| {
        let why = "the runtime does no I/O: build it with enable_io() or enable_all()";
        Err(io::Error::other(why))
    })
}
