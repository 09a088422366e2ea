//! Pipes that outlive the runtime they were used on.

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

impl Pipe<Sender> {
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
