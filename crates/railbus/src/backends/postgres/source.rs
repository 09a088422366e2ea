//! What was heard and waits to be handled: bounded, and what is dropped is told.

use super::{
    capability::{BACKLOG_BYTES, Settings},
    link::Link,
    spill::{Spill, reference},
};
use crate::{
    backend::{Leased, Receipt, Settle, SharedFilter, Source, Undecodable},
    codec::{self, Format},
    error::{Error, ErrorKind, Result},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};
use tokio_postgres::types::{ToSql, Type};

/// How many events that were spilled are read at once: each may be as large as a payload.
const SPILLED_AT_ONCE: usize = 4;

/// How long it is waited for a mark to come round.
const MARK_WITHIN: Duration = Duration::from_millis(500);

/// Something heard.
#[derive(Debug)]
enum Note {
    /// With the topic that its channel stands for, if it does.
    Text(Bytes, Option<Arc<str>>),
    Spilled(i64),
    /// Comes round by way of the server, behind all that was published before it.
    Mark(u64),
}

impl Note {
    fn size(&self) -> usize {
        // With what the queue itself takes.
        size_of::<Self>() + if let Self::Text(text, _) = self { text.len() } else { 0 }
    }
}

/// What was heard and not fetched yet.
#[derive(Debug, Default)]
struct Waiting {
    notes: VecDeque<Note>,
    bytes: usize,
    // Dropped since there was room last, and at all.
    dropping: u64,
    lost: u64,
    // How many of these it was told of that they are missing.
    lost_told: u64,
    handed_out: u64,
    marked: u64,
    stopped: bool,
}

/// A listener to every event of interest from now on.
#[derive(Debug)]
pub(super) struct Broadcast {
    wants: SharedFilter,
    format: Format,
    backlog: usize,
    waiting: Mutex<Waiting>,
    news: Notify,
    marks: Notify,
    gap: Notify,
    mark: Mutex<u64>,
    link: Arc<Link>,
    spill: Arc<Spill>,
    // Where its marks come round.
    own: String,
}

impl Broadcast {
    pub(super) fn new(
        wants: SharedFilter,
        settings: &Settings,
        link: Arc<Link>,
        spill: Arc<Spill>,
        own: String,
    ) -> Self {
        Self {
            wants,
            format: settings.format,
            backlog: settings.backlog,
            waiting: Mutex::default(),
            news: Notify::new(),
            marks: Notify::new(),
            gap: Notify::new(),
            mark: Mutex::new(0),
            link,
            spill,
            own,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was notified.
    pub(super) fn hear(&self, text: &Bytes, topic: Option<&Arc<str>>) {
        let spilled = std::str::from_utf8(text).ok().and_then(reference);
        // What another's channel brings is never a reference.
        self.take(match spilled.filter(|_| topic.is_none()) {
            Some(row) => Note::Spilled(row),
            None => Note::Text(text.clone(), topic.cloned()),
        });
    }

    /// Takes in a mark that came round.
    pub(super) fn hear_mark(&self, text: &str) {
        if let Ok(mark) = text.parse() {
            self.take(Note::Mark(mark));
        }
    }

    fn take(&self, note: Note) {
        let mut waiting = self.waiting();
        let is_mark = matches!(note, Note::Mark(_));
        if !is_mark && (waiting.notes.len() >= self.backlog || waiting.bytes >= BACKLOG_BYTES) {
            waiting.lost += 1;
            waiting.dropping += 1;
            if waiting.dropping == 1 {
                let events = waiting.notes.len();
                tracing::warn!(
                    events,
                    bytes = waiting.bytes,
                    "handlers are slower than publishers: events are dropped until there is room"
                );
            }
            return;
        }
        waiting.bytes += note.size();
        waiting.notes.push_back(note);
        drop(waiting);
        self.news.notify_one();
    }

    /// Notes that events were missed, and are heard again.
    pub(super) fn missed(&self) {
        self.gap.notify_one();
    }

    /// Takes out up to `max` notes.
    fn next(&self, max: usize) -> Vec<Note> {
        let mut waiting = self.waiting();
        let mut taken = Vec::new();
        let mut spilled = 0;
        while let Some(note) = waiting.notes.front() {
            let more = usize::from(matches!(note, Note::Spilled(_)));
            if taken.len() == max || spilled + more > SPILLED_AT_ONCE {
                break;
            }
            spilled += more;
            if let Some(note) = waiting.notes.pop_front() {
                waiting.bytes = waiting.bytes.saturating_sub(note.size());
                taken.push(note);
            }
        }
        if waiting.lost_told < waiting.lost {
            waiting.lost_told = waiting.lost;
            self.gap.notify_one();
        }
        let has_room =
            waiting.notes.len() <= self.backlog / 2 && waiting.bytes <= BACKLOG_BYTES / 2;
        if waiting.dropping > 0 && has_room {
            let (dropped, in_all) = (std::mem::take(&mut waiting.dropping), waiting.lost);
            tracing::warn!(dropped, in_all, "there is room for events again");
        }
        taken
    }

    /// Puts back what could not be read yet, in front.
    fn put_back(&self, notes: Vec<Note>) {
        let mut waiting = self.waiting();
        for note in notes.into_iter().rev() {
            waiting.bytes += note.size();
            waiting.notes.push_front(note);
        }
    }

    /// Makes events of what was heard.
    async fn read(&self, notes: Vec<Note>) -> Result<(Vec<Leased>, Option<u64>)> {
        let ids: Vec<_> = notes
            .iter()
            .filter_map(|note| if let Note::Spilled(id) = note { Some(*id) } else { None })
            .collect();
        let kept = match ids.is_empty() {
            true => Ok(Default::default()),
            false => self.spill.read(&ids).await,
        };
        let kept = match kept {
            // It heals: they are read then.
            Err(e) if e.is_retryable() => {
                self.put_back(notes);
                self.gap.notify_one();
                return Err(e);
            }
            kept => kept,
        };
        let mut leased = Vec::with_capacity(notes.len());
        let mut marked = None;
        for note in notes {
            let (raw, event) = match note {
                Note::Text(text, None) => (text.clone(), codec::decode(&text)),
                Note::Text(text, Some(topic)) => (text.clone(), self.format.decode(&topic, &text)),
                Note::Spilled(id) => {
                    let body = match &kept {
                        Ok(kept) => kept.get(&id).cloned().map(Bytes::from).ok_or_else(|| gone(id)),
                        Err(e) => Err(e.clone()),
                    };
                    let raw = body.as_ref().map_or_else(|_| Bytes::new(), Bytes::clone);
                    (raw, body.and_then(|body| codec::decode(&body)))
                }
                Note::Mark(mark) => {
                    marked = Some(mark);
                    continue;
                }
            };
            if event.as_ref().is_ok_and(|e| !self.wants.matches(e.event_type(), e.topic())) {
                continue;
            }
            leased.push(Leased {
                receipt: Receipt { place: 0, fence: 0, token: None },
                event: event.map_err(|error| Undecodable { raw, error }),
                attempt: 1,
                lost: false,
                finished: Vec::new(),
                only: None,
            });
        }
        Ok((leased, marked))
    }
}

fn gone(id: i64) -> Error {
    Error::new(ErrorKind::NotFound, "fetch", "an event was deleted before it was read")
        .with("row", id)
        .hint("handle events sooner, or raise spill_retention")
}

#[async_trait]
impl Source for Broadcast {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        loop {
            let news = self.news.notified();
            if self.waiting().stopped {
                return Ok(Vec::new());
            }
            let notes = self.next(max);
            if notes.is_empty() {
                news.await;
                continue;
            }
            let (leased, marked) = self.read(notes).await?;
            {
                let mut waiting = self.waiting();
                waiting.handed_out += leased.len() as u64;
                waiting.marked = marked.unwrap_or(waiting.marked).max(waiting.marked);
            }
            if marked.is_some() {
                self.marks.notify_waiters();
            }
            if !leased.is_empty() {
                return Ok(leased);
            }
        }
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        let mark = {
            let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
            *mark += 1;
            *mark
        };
        let session = self.link.client("look").await?;
        let (own, text) = (&*self.own, mark.to_string());
        let values: [(&(dyn ToSql + Sync), Type); 2] = [(&own, Type::TEXT), (&text, Type::TEXT)];
        session.query("look", "SELECT pg_notify($1, $2)", &values).await?;
        let round = async {
            loop {
                let mut marks = std::pin::pin!(self.marks.notified());
                marks.as_mut().enable();
                if self.waiting().marked >= mark {
                    return;
                }
                marks.await;
            }
        };
        match timeout(MARK_WITHIN, round).await {
            Ok(()) => Ok(Some(self.waiting().handed_out)),
            Err(_) => Ok(None),
        }
    }

    async fn gap(&self) {
        self.gap.notified().await;
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        // At most once: there is nothing to settle.
        vec![Ok(()); batch.len()]
    }

    fn stop(&self) {
        self.waiting().stopped = true;
        self.news.notify_one();
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        Ok(())
    }
}
