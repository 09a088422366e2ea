//! Pipes that outlive the runtime they were used on.

use rustix::io::{ioctl_fionbio, read, write};
use std::{
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{Handle, Id},
};

/// One end of a pipe, watched by the runtime that uses it now.
#[derive(Debug)]
pub(super) struct Pipe {
    // None only while it changes its runtime, or if that failed.
    fd: Option<AsyncFd<OwnedFd>>,
    runtime: Id,
    interest: Interest,
}

impl Pipe {
    /// Takes a pipe; called on a runtime.
    pub(super) fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        ioctl_fionbio(&fd, true)?;
        let runtime = Handle::current().id();
        Ok(Self { fd: Some(watched(fd, interest)?), runtime, interest })
    }

    /// Has it watched by the runtime of the caller.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let here = Handle::current().id();
        if here != self.runtime
            && let Some(fd) = self.fd.take()
        {
            self.fd = Some(watched(fd.into_inner(), self.interest)?);
            self.runtime = here;
        }
        Ok(())
    }

    fn fd(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        self.fd.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads what is there, at least a byte, at the end of `into`; 0 at its end.
    pub(super) async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let fd = self.fd()?;
        fd.async_io(Interest::READABLE, |fd| Ok(read(fd, &mut *into)?)).await
    }

    /// Writes all of it.
    pub(super) async fn write(&self, mut all: &[u8]) -> io::Result<()> {
        let fd = self.fd()?;
        while !all.is_empty() {
            let written = fd.async_io(Interest::WRITABLE, |fd| Ok(write(fd, all)?)).await?;
            all = &all[written..];
        }
        Ok(())
    }
}

fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // Nothing but a panic tells that a runtime does no I/O.
    let watched = catch_unwind(AssertUnwindSafe(|| AsyncFd::register_with_interest(fd, interest)));
    watched.unwrap_or_else(|_| {
        let why = "the runtime does no I/O: build it with enable_io() or enable_all()";
        Err(io::Error::other(why))
    })
}
