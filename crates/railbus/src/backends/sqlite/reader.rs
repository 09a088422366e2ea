//! The thread of a process that reads, beside the writer: looking never waits for a sync.

use super::{fault::fault, file::open_reader, settings::Settings};
use crate::error::{Error, ErrorKind, Result};
use rusqlite::Connection;
use std::{sync::mpsc, thread};
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce(&Connection) + Send>;

/// A handle to the reader thread.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    // None ends the thread, whoever still holds a handle.
    work: mpsc::Sender<Option<Work>>,
    settings: Settings,
}

impl Reader {
    /// Opens the file and starts the thread; it ends when the last handle is dropped.
    pub(super) fn start(settings: &Settings) -> Result<(Self, thread::JoinHandle<()>)> {
        let connection = open_reader(settings)?;
        let (work, queue) = mpsc::channel::<Option<Work>>();
        let thread = thread::Builder::new()
            .name("railbus-sqlite-reader".into())
            .spawn(move || queue.iter().map_while(|work| work).for_each(|work| work(&connection)))
            .map_err(|e| {
                Error::new(ErrorKind::Internal, "open sqlite", "cannot start a thread").because(e)
            })?;
        Ok((Self { work, settings: settings.clone() }, thread))
    }

    /// Runs `look` on a snapshot of the store.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let path = self.settings.path.clone();
        let closed = || Error::new(ErrorKind::Closed, "sqlite", "the store is closed");
        let work: Work = Box::new(move |connection| {
            let _ = reply.send(look(connection).map_err(|e| fault("sqlite", &path, e)));
        });
        self.work.send(Some(work)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Ends the thread once it has looked at what was asked for before.
    pub(super) fn stop(&self) {
        // A thread that is gone has ended.
        let _ = self.work.send(None);
    }
}
