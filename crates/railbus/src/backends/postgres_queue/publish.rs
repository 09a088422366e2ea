//! Publishing: events into the log, with the input positions they move.

use super::{
    lines::{Lines, Value, code_of},
    settings::micros,
    wake::Wake,
};
use crate::{
    backend::{Advance, Outgoing},
    backends::parts::{Most, part},
    codec,
    error::{Error, ErrorKind, Result},
    event::Event,
};
use std::{borrow::Cow, sync::Arc};
use tokio_postgres::types::Type;

/// The code of what `publish_steps` raises if an input is not where a step begins.
const MOVED: &str = "RB001";

/// An event made ready to be stored.
#[derive(Debug)]
pub(super) struct Ready {
    event: Event,
    delay: Option<i64>,
    run: Option<i64>,
    // The input and the reason, if it never became an event.
    rejected: Option<(String, String)>,
    position: Option<Advance>,
    body: Vec<u8>,
}

impl Ready {
    /// Tells whether it only needs to be inserted.
    pub(super) fn is_plain(&self) -> bool {
        self.rejected.is_none() && self.position.is_none()
    }

    /// Returns about how many bytes it makes a statement longer.
    pub(super) fn weight(&self) -> usize {
        self.body.len() + self.event.event_type().len() + self.event.topic().len() + 64
    }
}

/// Replaces what the server's texts can't have.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Returns an event's id, as the server's texts can have it.
fn id_of(event: &Event) -> Cow<'_, str> {
    match event.id().contains('\0') {
        true => Cow::Owned(clean(event.id())),
        false => Cow::Borrowed(event.id()),
    }
}

/// Checks and encodes one event.
pub(super) fn make_ready(outgoing: &Outgoing, payload_max: usize) -> Result<Ready> {
    let event = &outgoing.event;
    event.check()?;
    let size = event.text()?.len();
    if size > payload_max {
        let why = "the payload is too large for the store";
        return Err(Error::new(ErrorKind::TooLarge, "publish", why)
            .with("event", event.id())
            .with("bytes", size)
            .with("allowed", payload_max)
            .hint("publish a reference to where the data is kept"));
    }
    let input = outgoing.position.as_ref().map_or("", |p| &*p.input);
    let rejected = outgoing.rejected.as_ref();
    Ok(Ready {
        event: event.clone(),
        delay: event.delay().map(micros),
        run: outgoing.run.map(|run| run.run),
        rejected: rejected.map(|why| (clean(input), clean(why))),
        position: outgoing.position.clone(),
        body: codec::encode(event)?,
    })
}

/// How much one statement has at most, but for one event, or for those that go with one position.
const MOST: Most = Most { events: usize::MAX, weight: 64 << 20 };

/// How many bytes one statement can have: the server takes no message of 1 GiB.
const WEIGHT_MAX: usize = 960 << 20;

/// Tells how many of these events the next statement stores.
fn part_of(rest: &[Ready]) -> usize {
    part(rest, MOST, Ready::weight, |ready| ready.position.is_some())
}

/// Cuts events into parts of which each fits in a statement.
pub(super) fn parts(mut events: Vec<Ready>) -> Vec<Vec<Ready>> {
    let mut parts = Vec::new();
    while !events.is_empty() {
        let rest = events.split_off(part_of(&events));
        parts.push(std::mem::replace(&mut events, rest));
    }
    parts
}

/// The columns of events, as the server takes them.
pub(super) struct Columns<'a> {
    ids: Vec<Cow<'a, str>>,
    types: Vec<&'a str>,
    topics: Vec<&'a str>,
    keys: Option<Vec<Option<&'a str>>>,
    delays: Option<Vec<Option<i64>>>,
    bodies: Vec<&'a [u8]>,
    runs: Option<Vec<Option<i64>>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(events: &'a [Ready]) -> Self {
        let optional = |is_set: fn(&Ready) -> bool| events.iter().any(is_set);
        Self {
            ids: events.iter().map(|e| id_of(&e.event)).collect(),
            types: events.iter().map(|e| e.event.event_type()).collect(),
            topics: events.iter().map(|e| e.event.topic()).collect(),
            keys: optional(|e| e.event.key().is_some())
                .then(|| events.iter().map(|e| e.event.key()).collect()),
            delays: optional(|e| e.delay.is_some())
                .then(|| events.iter().map(|e| e.delay).collect()),
            bodies: events.iter().map(|e| &*e.body).collect(),
            runs: optional(|e| e.run.is_some()).then(|| events.iter().map(|e| e.run).collect()),
        }
    }

    pub(super) fn values(&self) -> [Value<'_>; 7] {
        [
            (&self.ids, Type::TEXT_ARRAY),
            (&self.types, Type::TEXT_ARRAY),
            (&self.topics, Type::TEXT_ARRAY),
            (&self.keys, Type::TEXT_ARRAY),
            (&self.delays, Type::INT8_ARRAY),
            (&self.bodies, Type::BYTEA_ARRAY),
            (&self.runs, Type::INT8_ARRAY),
        ]
    }
}

/// The statement that stores events in a transaction of their own.
const PUBLISH: &str = "SELECT @.publish($1, $2, $3, $4, $5, $6, $7)";

/// The statement that stores events in somebody's transaction.
pub(super) const ENLIST: &str = "SELECT @.enlist($1, $2, $3, $4, $5, $6, $7)";

/// Stores events of any number of callers, all or none; returns one result each.
pub(super) async fn send(
    lines: Arc<Lines>,
    wake: Arc<Wake>,
    events: Vec<Ready>,
) -> Vec<Result<()>> {
    let columns = Columns::of(&events);
    let done = lines.query("publish", PUBLISH, &columns.values()).await;
    if done.is_ok() {
        wake.everyone(&lines);
    }
    let done = done.map(drop);
    vec![done; events.len()]
}

/// Stores a batch with the input positions that it moves, statement by statement, in its order; returns a
/// result each. Once one fails, the rest is not sent, and has its error.
pub(super) async fn send_all_steps(
    lines: &Arc<Lines>,
    wake: &Arc<Wake>,
    events: &[Ready],
) -> Vec<Result<()>> {
    let mut results = Vec::with_capacity(events.len());
    while results.len() < events.len() {
        let rest = &events[results.len()..];
        let next = &rest[..part_of(rest)];
        let sent = send_steps(lines, wake, next).await;
        let end = if sent.is_ok() { results.len() + next.len() } else { events.len() };
        results.resize(end, sent);
    }
    results
}

/// Stores events with the input positions that they move, or nothing if another process moved one.
async fn send_steps(lines: &Arc<Lines>, wake: &Arc<Wake>, events: &[Ready]) -> Result<()> {
    let weight: usize = events.iter().map(Ready::weight).sum();
    if weight > WEIGHT_MAX {
        let why = "the events that go with one position of an input are too large for a statement";
        return Err(Error::new(ErrorKind::TooLarge, "publish", why)
            .with("bytes", weight)
            .with("allowed", WEIGHT_MAX));
    }
    let mut steps: Vec<Advance> = Vec::new();
    for step in events.iter().filter_map(|ready| ready.position.as_ref()) {
        match steps.iter_mut().find(|known| known.input == step.input) {
            Some(known) if known.to.offset == step.from => known.to = step.to,
            Some(_) => return Err(moved(&step.input)),
            None => steps.push(step.clone()),
        }
    }
    // One order for all: of two publishers none waits for the other.
    steps.sort_by(|one, other| one.input.cmp(&other.input));
    let inputs: Vec<String> = steps.iter().map(|step| clean(&step.input)).collect();
    let froms: Vec<i64> = steps.iter().map(|step| step.from.cast_signed()).collect();
    let tos: Vec<i64> = steps.iter().map(|step| step.to.offset.cast_signed()).collect();
    let prints: Vec<i64> = steps.iter().map(|step| step.to.fingerprint.cast_signed()).collect();
    let rejected: Vec<(i64, &(String, String))> = (0..)
        .zip(events)
        .filter_map(|(nth, ready)| ready.rejected.as_ref().map(|rejected| (nth, rejected)))
        .collect();
    let nths: Vec<i64> = rejected.iter().map(|(nth, _)| *nth).collect();
    let sources: Vec<&str> = rejected.iter().map(|(_, (input, _))| &**input).collect();
    let reasons: Vec<&str> = rejected.iter().map(|(_, (_, why))| &**why).collect();
    let columns = Columns::of(events);
    let mut values = columns.values().to_vec();
    values.extend([
        (&inputs as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT_ARRAY),
        (&froms, Type::INT8_ARRAY),
        (&tos, Type::INT8_ARRAY),
        (&prints, Type::INT8_ARRAY),
        (&nths, Type::INT8_ARRAY),
        (&sources, Type::TEXT_ARRAY),
        (&reasons, Type::TEXT_ARRAY),
    ]);
    let statement =
        "SELECT @.publish_steps($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    match lines.query("publish", statement, &values).await {
        Ok(_) => {
            wake.everyone(lines);
            Ok(())
        }
        Err(e) if code_of(&e).as_deref() == Some(MOVED) => {
            Err(moved(steps.first().map_or("", |step| &*step.input)))
        }
        Err(e) => Err(e),
    }
}

/// Takes back what was published under this id and is not due yet; tells whether there was anything.
pub(super) async fn withdraw(lines: &Lines, event_id: &str) -> Result<bool> {
    // As it was stored.
    let id = clean(event_id);
    lines.one("withdraw", "SELECT @.withdraw($1)", &[(&id, Type::TEXT)]).await
}

fn moved(input: &str) -> Error {
    let why = "another process has read on in this input";
    Error::new(ErrorKind::Stale, "publish", why).with("input", input.escape_debug())
}
