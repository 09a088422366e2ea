//! The way to the program: its pipes, out of reach of what steps print and read.

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, fcntl_dupfd_cloexec, read, write},
    stdio::{dup2_stdin, dup2_stdout, stderr, stdin, stdout},
};
use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

/// Where messages come from, and where they go, one at a time.
#[derive(Debug)]
pub(super) struct Channel {
    from: OwnedFd,
    to: Mutex<OwnedFd>,
}

impl Channel {
    /// Takes stdin and stdout for messages: from now on what is printed goes to stderr, and there
    /// is nothing to read.
    pub(super) fn take() -> io::Result<Self> {
        let from = fcntl_dupfd_cloexec(stdin(), 3)?;
        let to = Mutex::new(fcntl_dupfd_cloexec(stdout(), 3)?);
        dup2_stdin(File::open("/dev/null")?)?;
        dup2_stdout(stderr())?;
        Ok(Self { from, to })
    }

    /// Reads what is there, at least a byte; 0 at its end.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match read(&self.from, &mut *into) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Writes a message.
    pub(super) fn write(&self, mut message: &[u8]) -> io::Result<()> {
        let to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        while !message.is_empty() {
            match write(&*to, message) {
                Ok(written) => message = &message[written..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until nobody can write messages any more, whatever is still to be read.
    pub(super) fn closed(&self) {
        // Nothing is asked for, so that nothing but the end of the other side wakes it.
        let mut pipes = [PollFd::new(&self.from, PollFlags::empty())];
        while poll(&mut pipes, None) == Err(Errno::INTR) {}
    }
}
