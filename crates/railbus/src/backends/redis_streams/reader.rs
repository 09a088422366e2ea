//! A connection that waits for what comes: reads that block, and that can be cut short without
//! losing what they read.

use super::{
    entry::Entry,
    keys::Keys,
    script::{list, odd},
};
use crate::{
    backends::redis::{aside::Shelf, client::Hears, link::Link, settings::Server},
    error::{Error, ErrorKind, Result},
};
use redis::{Cmd, Pipeline, PushInfo, PushKind, RedisResult, Value};
use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// The longest that a read blocks.
pub(super) const BLOCK_MAX: Duration = Duration::from_secs(2);

/// The longest that a read blocks which can't be cut short.
const BLOCK_BLIND: Duration = Duration::from_millis(200);

/// How much longer a read blocks than it is to last.
const LATER: Duration = Duration::from_millis(250);

/// How long a read that was cut short may take to return before it is cut short again: the word
/// may have come before the read.
const CUT_AGAIN: Duration = Duration::from_millis(10);

/// How long a read that was cut short is waited for, be it that nobody answers.
const CUT_WITHIN: Duration = Duration::from_secs(1);

fn lost(link: &Link) -> Error {
    Error::new(ErrorKind::Timeout, "fetch", "the server did not answer in time")
        .with("server", link.server())
}

/// A connection that waits for what comes.
#[derive(Debug)]
pub(super) struct Reader {
    link: Link,
    shelf: Arc<Shelf>,
    commands: Link,
    // The channel that tells of events that can be fetched again, and what was heard on it.
    wake: Option<String>,
    heard: Arc<Notify>,
    // The connection that was made ready, and its number on the server.
    ready: Mutex<Option<(u64, i64)>>,
    // Whether the user may cut reads short, and listen to the channel.
    cuts: AtomicBool,
    hears: AtomicBool,
}

impl Reader {
    /// Makes a reader that connects when it first reads; for a member of `group`, it hears of events
    /// that can be fetched again.
    pub(super) fn new(
        server: &Arc<Server>,
        commands: &Link,
        keys: &Keys,
        group: Option<&str>,
    ) -> Result<Self> {
        let heard = Arc::<Notify>::default();
        let hears: Option<Hears> = group.map(|group| {
            let (group, heard) = (group.to_owned(), Arc::clone(&heard));
            let hears: Hears = Arc::new(move |info| {
                if names(&info, &group) {
                    heard.notify_one();
                }
            });
            hears
        });
        let (shelf, answer) = (Arc::<Shelf>::default(), server.timeout + BLOCK_MAX + LATER);
        Ok(Self {
            link: Link::idle(server, answer, hears, Some(Arc::clone(&shelf)))?,
            shelf,
            commands: commands.clone(),
            wake: group.map(|_| keys.wake.clone()),
            heard,
            ready: Mutex::new(None),
            cuts: AtomicBool::new(true),
            hears: AtomicBool::new(true),
        })
    }

    /// Completes when an event of the group can be fetched again.
    pub(super) async fn woken(&self) {
        self.heard.notified().await;
    }

    /// Returns for how many milliseconds a read blocks that is to last so long: where it can be cut
    /// short, that ends it, since the server looks at its clock ten times a second only.
    pub(super) fn block(&self, wait: Duration) -> u64 {
        let can_wait = self.cuts.load(SeqCst) && (self.wake.is_none() || self.hears.load(SeqCst));
        let block = if can_wait { wait.min(BLOCK_MAX) + LATER } else { wait.min(BLOCK_BLIND) };
        u64::try_from(block.as_millis().max(1)).unwrap_or(1)
    }

    /// Connects, if it is not, and makes the connection ready.
    ///
    /// # Errors
    /// Returns what the server says.
    pub(super) async fn prepare(&self) -> Result<(u64, redis::aio::MultiplexedConnection, i64)> {
        let (number, mut connection) = self.link.get().await?;
        let known = *self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = known.filter(|(of, _)| *of == number) {
            return Ok((number, connection, client));
        }
        let failed = |e| self.link.failed("fetch", number, e);
        let client = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await;
        let client = match client {
            Err(e) if e.code() == Some("NOPERM") => {
                self.cuts.store(false, SeqCst);
                0
            }
            client => client.map_err(failed)?,
        };
        if let Some(wake) = &self.wake {
            match connection.subscribe(wake).await {
                Err(e) if e.code() == Some("NOPERM") => self.hears.store(false, SeqCst),
                subscribed => subscribed.map_err(failed)?,
            }
        }
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, client));
        Ok((number, connection, client))
    }

    /// Sends a read that may block and returns the entries of its answer, none if it waited in vain;
    /// once `interrupt` completes, it is cut short.
    ///
    /// # Errors
    /// Returns what the server says, or why there was no answer: then nobody knows what was read.
    ///
    /// # Cancel safety
    /// None: what is read when it is dropped is lost.
    pub(super) async fn read(
        &self,
        command: &Cmd,
        keys: &Keys,
        interrupt: impl Future<Output = ()>,
    ) -> Result<Vec<Entry>> {
        let said = self.answer(command, interrupt).await?;
        self.entries(said, keys)
    }

    /// Reads as [`Reader::read`], and then looks, so that the look tells of the stream as it was when
    /// the read was answered. Both go out at once.
    ///
    /// # Errors
    /// Returns what the server says of the read, or why there was no answer.
    ///
    /// # Cancel safety
    /// None: what is read when it is dropped is lost.
    pub(super) async fn read_and_look(
        &self,
        commands: &Pipeline,
        keys: &Keys,
        interrupt: impl Future<Output = ()>,
    ) -> Result<(Vec<Entry>, Result<Value>)> {
        let (number, mut connection, client) = self.prepare().await?;
        let asking = connection.send_packed_commands(commands, 0, commands.len());
        let said = self.awaited((number, client), asking, interrupt).await?;
        let failed = |e| self.link.failed("fetch", number, e);
        let mut said = said.into_iter().map(|said| said.extract_error().map_err(failed));
        let mut next = || said.next().unwrap_or_else(|| Err(odd("fetch")));
        let read = next()?;
        Ok((self.entries(read, keys)?, next()))
    }

    fn entries(&self, said: Value, keys: &Keys) -> Result<Vec<Entry>> {
        let Value::Int(number) = said else { return Ok(entries(said, keys)) };
        let answer = u64::try_from(number).ok().and_then(|number| self.shelf.take(number));
        answer.and_then(|answer| Entry::read_all(&answer, keys)).ok_or_else(|| odd("fetch"))
    }

    /// Takes events over from a member, itself, and returns them.
    ///
    /// # Errors
    /// Returns what the server says, or why there was no answer.
    pub(super) async fn claim(&self, command: &Cmd, keys: &Keys) -> Result<Vec<Entry>> {
        let said = list(self.answer(command, std::future::pending()).await?);
        Ok(said.into_iter().filter_map(|one| Entry::read(one, keys)).collect())
    }

    async fn answer(&self, command: &Cmd, interrupt: impl Future<Output = ()>) -> Result<Value> {
        let (number, mut connection, client) = self.prepare().await?;
        let asking = connection.send_packed_command(command);
        let said = self.awaited((number, client), asking, interrupt).await?;
        said.extract_error().map_err(|e| self.link.failed("fetch", number, e))
    }

    /// Awaits an answer, and has it come soon once it is interrupted.
    async fn awaited<T>(
        &self,
        (number, client): (u64, i64),
        asking: impl Future<Output = RedisResult<T>>,
        interrupt: impl Future<Output = ()>,
    ) -> Result<T> {
        let mut reading = pin!(asking);
        let said = tokio::select! {
            biased;
            said = &mut reading => said,
            () = interrupt => {
                let cutting = async {
                    loop {
                        self.cut(client).await;
                        tokio::time::sleep(CUT_AGAIN).await;
                    }
                };
                tokio::select! {
                    biased;
                    said = &mut reading => said,
                    () = cutting => return Err(lost(&self.link)),
                    () = tokio::time::sleep(CUT_WITHIN) => {
                        // What it may have read comes again when its lease runs out.
                        self.link.broken(number);
                        return Err(lost(&self.link));
                    }
                }
            }
        };
        said.map_err(|e| self.link.failed("fetch", number, e))
    }

    /// Ends what the client of this number waits for; what can't be cut short ends soon by itself.
    async fn cut(&self, client: i64) {
        if !self.cuts.load(SeqCst) {
            return;
        }
        let mut command = redis::cmd("CLIENT");
        command.arg("UNBLOCK").arg(client);
        if let Err(error) = self.commands.ask::<Value>("fetch", &command).await {
            tracing::debug!(%error, "a read could not be cut short");
            if error.kind() == ErrorKind::Denied {
                self.cuts.store(false, SeqCst);
            }
        }
    }

    pub(super) fn close(&self) {
        self.link.close();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads what a read of streams answers where the connection is encrypted.
fn entries(said: Value, keys: &Keys) -> Vec<Entry> {
    let streams: Vec<Value> = match said {
        Value::Map(streams) => streams.into_iter().map(|(_, entries)| entries).collect(),
        Value::Array(streams) => streams.into_iter().filter_map(|s| list(s).pop()).collect(),
        _ => return Vec::new(),
    };
    streams.into_iter().flat_map(list).filter_map(|one| Entry::read(one, keys)).collect()
}

/// Tells whether a message on the channel names this group, or the connection is gone.
fn names(info: &PushInfo, group: &str) -> bool {
    match (&info.kind, info.data.last()) {
        (PushKind::Message, Some(Value::BulkString(name))) => name == group.as_bytes(),
        (PushKind::Disconnection, _) => true,
        _ => false,
    }
}
