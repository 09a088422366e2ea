//! Watching the write-ahead log: when it was written to, and waiting for that without looking.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::PathBuf,
    time::SystemTime,
};

/// How long a wait may go without a look where the system tells of writes, in seconds.
const TOLD: i64 = 1;

/// How long it may go where the system does not tell, in nanoseconds: ten looks a second.
const UNTOLD: i64 = 100_000_000;

/// The log of a store.
#[derive(Debug)]
pub(super) struct Watch {
    log: PathBuf,
    // None where the system can't tell, or has too many watches already.
    told: Option<OwnedFd>,
}

impl Watch {
    pub(super) fn of(log: PathBuf) -> Self {
        let told = told::open(&log);
        Self { log, told }
    }

    /// Returns when the log was last written to, and its size; none if there is none.
    pub(super) fn written(&self) -> Option<(SystemTime, u64)> {
        let about = fs::metadata(&self.log).ok()?;
        Some((about.modified().ok()?, about.len()))
    }

    /// Waits for a byte or for a write to the log; tells whether it is time to look.
    pub(super) fn wait(&self, ear: &UnixDatagram) -> bool {
        let mut waited = vec![PollFd::new(ear, PollFlags::IN)];
        waited.extend(self.told.iter().map(|told| PollFd::new(told, PollFlags::IN)));
        let limit = match self.told {
            Some(_) => Timespec { tv_sec: TOLD, tv_nsec: 0 },
            None => Timespec { tv_sec: 0, tv_nsec: UNTOLD },
        };
        // If waiting fails, looking is the safe side, at the pace of the ear's own timeout.
        if poll(&mut waited, Some(&limit)).is_err() {
            return true;
        }
        let heard = !waited[0].revents().is_empty();
        let written = match (&self.told, waited.get(1)) {
            (Some(told), Some(polled)) if !polled.revents().is_empty() => {
                told::drain(told, &self.log)
            }
            (Some(_), _) => false,
            (None, _) => true,
        };
        heard || written
    }
}

#[cfg(target_os = "linux")]
mod told {
    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
    use std::{
        mem::MaybeUninit,
        os::{fd::OwnedFd, unix::ffi::OsStrExt},
        path::Path,
    };

    /// Watches the log's folder: the log itself comes and goes.
    pub(super) fn open(log: &Path) -> Option<OwnedFd> {
        let folder = match log.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let told = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        add_watch(&told, folder, WatchFlags::MODIFY | WatchFlags::CREATE).ok()?;
        Some(told)
    }

    /// Takes what the system told; tells whether some of it was about the log.
    pub(super) fn drain(told: &OwnedFd, log: &Path) -> bool {
        let name = log.file_name().map(OsStrExt::as_bytes);
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(told, &mut buffer);
        let mut about_log = false;
        while let Ok(event) = reader.next() {
            // Without a name it tells that something was left out.
            about_log |= event.file_name().is_none_or(|found| Some(found.to_bytes()) == name);
        }
        about_log
    }
}

#[cfg(not(target_os = "linux"))]
mod told {
    use std::{os::fd::OwnedFd, path::Path};

    pub(super) fn open(_log: &Path) -> Option<OwnedFd> {
        None
    }

    pub(super) fn drain(_told: &OwnedFd, _log: &Path) -> bool {
        true
    }
}
