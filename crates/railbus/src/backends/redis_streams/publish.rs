//! Publishing: events to the stream's end, those of many callers in one request.

use super::{
    entry::{DELAY, EVENT, KEY, RUN, TOPIC},
    id::millis,
    keys::Keys,
    plain,
    script::{PUBLISH, WITHDRAW, list, number, odd, text},
    trim::Trimming,
};
use crate::{
    backend::{Advance, Outgoing, Position},
    backends::{
        gather::{Gather, Limits},
        parts::{Most, part},
        redis::{link::Link, send::send_all, store::check_size},
    },
    codec::Format,
    error::{Error, ErrorKind, Result},
};
use redis::Cmd;
use std::sync::Arc;

/// How large the requests are that publishes are put together in. With two on their way, the next is
/// written while the server works on the one before.
const LIMITS: Limits = Limits { items: 512, weight: 1 << 20, flights: 2, callers: usize::MAX };

/// How much one script publishes: nothing else is done meanwhile.
const MOST: Most = Most { events: 512, weight: 1 << 20 };

/// An event on its way out.
#[derive(Debug)]
pub(super) struct Ready {
    id: String,
    topic: String,
    body: Vec<u8>,
    // The type, the id and the time, where they are fields of their own.
    plain: Option<[String; 3]>,
    key: Option<String>,
    delay: Option<u64>,
    run: Option<i64>,
    // The input and the reason, if it never became an event.
    rejected: Option<(String, String)>,
    position: Option<Advance>,
}

impl Ready {
    /// Checks and encodes one event.
    pub(super) fn make(outgoing: &Outgoing, payload_max: usize, format: Format) -> Result<Self> {
        let event = &outgoing.event;
        event.check()?;
        check_size(outgoing, payload_max)?;
        // A dead letter tells all there is.
        let format = if outgoing.rejected.is_some() { Format::CloudEvents } else { format };
        let input = outgoing.position.as_ref().map_or("", |position| &*position.input);
        Ok(Self {
            id: if event.delay().is_some() { event.id().into() } else { String::new() },
            topic: event.topic().into(),
            body: format.encode(event)?,
            plain: (format == Format::Plain).then(|| {
                let time = event.timestamp().to_string();
                [event.event_type().to_owned(), event.id().to_owned(), time]
            }),
            key: event.key().map(str::to_owned),
            delay: event.delay().map(millis),
            run: outgoing.run.map(|run| run.run),
            rejected: outgoing.rejected.as_ref().map(|why| (input.into(), why.clone())),
            position: outgoing.position.clone(),
        })
    }

    /// Tells whether it takes more than an entry: it can be withdrawn, moves an input, or is counted.
    pub(super) fn is_more(&self) -> bool {
        self.delay.is_some()
            || self.position.is_some()
            || (self.rejected.is_some() && self.run.is_some())
    }

    fn weight(&self) -> usize {
        self.topic.len() + self.body.len() + 80
    }

    fn command(&self, keys: &Keys) -> Cmd {
        let mut command = Cmd::with_capacity(13, self.weight() + keys.stream.len());
        let stream = if self.rejected.is_some() { &keys.dead } else { &keys.stream };
        command.arg("XADD").arg(stream).arg("*");
        self.write(&mut command);
        command
    }

    /// Tells how many words its fields and values are.
    fn words(&self) -> usize {
        let more = [self.key.is_some(), self.delay.is_some(), self.run.is_some()];
        match self.rejected {
            Some(_) => 10,
            None => {
                2 + self.plain.as_ref().map_or(2, |_| plain::WORDS)
                    + 2 * more.into_iter().filter(|is| *is).count()
            }
        }
    }

    /// Writes its fields and their values.
    fn write(&self, command: &mut Cmd) {
        if let Some((input, reason)) = &self.rejected {
            command.arg("subscription").arg(input).arg("reason").arg(reason).arg("attempt").arg(0);
            command.arg("f:topic").arg(&self.topic).arg("f:event").arg(self.body.as_slice());
            return;
        }
        command.arg(TOPIC).arg(&self.topic);
        match &self.plain {
            None => {
                command.arg(EVENT).arg(self.body.as_slice());
            }
            Some([event_type, id, time]) => {
                plain::write(command, event_type, id, time, &self.body);
            }
        }
        if let Some(key) = &self.key {
            command.arg(KEY).arg(key);
        }
        if let Some(delay) = self.delay {
            command.arg(DELAY).arg(delay);
        }
        if let Some(run) = self.run {
            command.arg(RUN).arg(run);
        }
    }
}

/// Publishes a batch of which some take more than an entry, part by part, in its order; returns a result
/// each. Once a part fails, the rest is not sent, and has its error.
pub(super) async fn send_parts(link: &Link, keys: &Keys, items: &[Ready]) -> Vec<Result<()>> {
    let mut results = Vec::with_capacity(items.len());
    while results.len() < items.len() {
        let rest = &items[results.len()..];
        let count = part(rest, MOST, Ready::weight, |item| item.position.is_some());
        let next = &rest[..count];
        let sent = match next.iter().any(Ready::is_more) {
            true => vec![send_more(link, keys, next).await; count],
            false => send_all(link, next, Ready::weight, |one| one.command(keys)).await,
        };
        let failed = sent.iter().find_map(|one| one.clone().err());
        results.extend(sent);
        if let Some(e) = failed {
            results.resize(items.len(), Err(e));
        }
    }
    results
}

/// Publishes events of which some take more than an entry: all or none of them.
///
/// # Errors
/// Returns a stale error if another process moved one of the inputs, else what the server says.
async fn send_more(link: &Link, keys: &Keys, items: &[Ready]) -> Result<()> {
    let elsewhere = |input: &str| {
        let why = "another process has read on in this input";
        Err(Error::new(ErrorKind::Stale, "publish", why).with("input", input))
    };
    let mut moves: Vec<(&str, u64, Position)> = Vec::new();
    for step in items.iter().filter_map(|item| item.position.as_ref()) {
        match moves.iter_mut().find(|(input, ..)| *input == &*step.input) {
            Some((_, _, to)) if to.offset == step.from => *to = step.to,
            Some((input, ..)) => return elsewhere(input),
            None => moves.push((&step.input, step.from, step.to)),
        }
    }
    let said = PUBLISH.run(link, keys, "publish", |command| {
        command.arg(moves.len());
        for (input, from, to) in &moves {
            command.arg(*input).arg(*from).arg(to.offset).arg(to.fingerprint);
        }
        for item in items {
            command.arg(if item.rejected.is_some() { "r" } else { "e" }).arg(&item.id);
            command.arg(item.run.map(|run| run.to_string()).unwrap_or_default());
            command.arg(item.delay.map(|delay| delay.to_string()).unwrap_or_default());
            command.arg(item.words());
            item.write(command);
        }
    });
    let mut said = list(said.await?).into_iter().map(text);
    match said.next().as_deref() {
        Some("ok") => Ok(()),
        Some("stale") => elsewhere(&said.next().unwrap_or_default()),
        _ => Err(odd("publish")),
    }
}

/// Takes back what is held back still; tells whether there was anything.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn withdraw(link: &Link, keys: &Keys, event_id: &str) -> Result<bool> {
    let said = WITHDRAW.run(link, keys, "withdraw", |command| {
        command.arg(event_id);
    });
    Ok(number(&said.await?) == Some(1))
}

/// Makes the line in which those who publish wait.
pub(super) fn line(link: &Link, keys: &Arc<Keys>, trimming: &Arc<Trimming>) -> Gather<Ready> {
    let (link, keys, trimming) = (link.clone(), Arc::clone(keys), Arc::clone(trimming));
    Gather::new(LIMITS, Ready::weight, move |items| {
        let (link, keys, trimming) = (link.clone(), Arc::clone(&keys), Arc::clone(&trimming));
        async move {
            let command = |one: &Ready| one.command(&keys);
            let sent = send_all(&link, &items, Ready::weight, command).await;
            trimming.note(items.len(), &link, &keys);
            sent
        }
    })
}
