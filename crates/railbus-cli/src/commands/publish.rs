//! `railbus publish`: one event, or one a line from stdin.

use super::{
    OK,
    payloads::{self, Batch, Payload},
    store::Shared,
};
use crate::{args::Publish, output};
use railbus::{
    backend::Outgoing,
    bus::Bus,
    clock::parse_duration,
    error::{Error, ErrorKind, Result},
    event::Event,
    topic::check_name,
};
use serde_json::json;
use std::{
    fs::{self, File},
    io::{IsTerminal, stdin},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    time::Duration,
};

pub(super) async fn publish(args: &Publish, json: bool) -> Result<u8> {
    let shared = Shared::read(&args.url, "publish", true)?;
    let form = Form::read(args, &shared)?;
    // Whatever is wrong with the command line is said before a store begins.
    check_name("topic", &args.topic)?;
    form.event(payloads::null()).check()?;
    refuse_unread(args)?;
    if args.lines.is_some() {
        return lines(&shared, &form, json).await;
    }
    let event = form.event(payload(args, &shared)?);
    let bus = shared.open().await?;
    let published = bus.publish(event.clone()).await;
    let closed = bus.close().await;
    published?;
    output::line(&receipt(&event, json))?;
    closed.map(|()| OK)
}

/// What all events of a call have in common.
struct Form<'a> {
    args: &'a Publish,
    delay: Option<Duration>,
}

impl<'a> Form<'a> {
    fn read(args: &'a Publish, shared: &Shared) -> Result<Self> {
        let delay = args.delay.as_deref().map(parse_duration).transpose()?;
        match (delay, shared.capability.publish_delay_max) {
            (Some(_), None) => Err(shared.capability.refuse("publish", "holds no event back", &[])),
            (Some(delay), Some(most)) if delay > most => {
                let why = format!("{} holds an event back for at most {most:?}", shared.options);
                Err(Error::new(ErrorKind::Unsupported, "publish", why))
            }
            _ => Ok(Self { args, delay }),
        }
    }

    fn event(&self, payload: Payload) -> Event {
        let Publish { topic, event_type, source, id, key, .. } = self.args;
        let mut event = Event::new(event_type.as_ref().unwrap_or(topic)).topic(topic);
        if let Some(source) = source {
            event = event.source(source);
        }
        if let Some(id) = id {
            event = event.id(id);
        }
        if let Some(key) = key {
            event = event.key(key);
        }
        if let Some(delay) = self.delay {
            event = event.delay(delay);
        }
        event.payload(payload)
    }
}

/// Refuses a call that names no payload while there is one on stdin, which would be left there.
fn refuse_unread(args: &Publish) -> Result<()> {
    let named = args.data.is_some() || args.file.is_some() || args.lines.is_some();
    let stdin = || stdin().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    // What can't be asked is closed, and so holds nothing.
    let waiting =
        |found: fs::Metadata| found.file_type().is_fifo() || (found.is_file() && found.len() > 0);
    if named || !stdin().is_ok_and(waiting) {
        return Ok(());
    }
    let why = "no payload is named, and stdin is not read by itself";
    let hint = "add `-` to read payloads from stdin, or --data; --data null publishes without one";
    Err(Error::new(ErrorKind::Config, "publish", why).hint(hint))
}

/// Reads the one payload that was given; null if none was.
fn payload(args: &Publish, shared: &Shared) -> Result<Payload> {
    if let Some(text) = &args.data {
        let hint = r#"quote the document for the shell: --data '{"id": 1}', --data '"a text"'"#;
        return payloads::parse(text.as_bytes()).map_err(|e| e.of("--data").hint(hint));
    }
    let Some(path) = &args.file else { return Ok(payloads::null()) };
    let text = payloads::read_file(path, shared.capability.payload_max)?;
    let hint = "for one event a line, write: railbus publish URL TOPIC - < FILE";
    payloads::parse(&text).map_err(|e| e.of(&path.display().to_string()).hint(hint))
}

/// Publishes one event a line, up to the first line that is wrong.
async fn lines(shared: &Shared, form: &Form<'_>, json: bool) -> Result<u8> {
    if stdin().is_terminal() {
        output::note("reading payloads from the terminal, one JSON document a line; Ctrl-D ends");
    }
    let bus = shared.open().await?;
    let mut batches = payloads::read_stdin(shared.capability.payload_max);
    let mut published = 0;
    let mut done = Ok(());
    while let (Ok(()), Some(batch)) = (&done, batches.recv().await) {
        done = publish_batch(&bus, form, batch, json, &mut published).await;
    }
    let closed = bus.close().await;
    match done {
        Ok(()) => {
            output::note(&format!("{} published", output::count(published, "event")));
            closed.map(|()| OK)
        }
        Err(e) => Err(e
            .with("published before it", published)
            .hint("what is published stays so: go on with the line that is named")),
    }
}

/// Publishes a batch and prints its ids; what is wrong with a line ends it.
async fn publish_batch(
    bus: &Bus,
    form: &Form<'_>,
    batch: Batch,
    json: bool,
    published: &mut u64,
) -> Result<()> {
    let (numbers, events): (Vec<_>, Vec<_>) = batch
        .payloads
        .into_iter()
        .map(|(number, payload)| (number, Outgoing::from(form.event(payload))))
        .unzip();
    let results = bus.publish_all(&events).await;
    let mut failed = None;
    let mut receipts = Vec::new();
    for ((number, outgoing), result) in numbers.iter().zip(&events).zip(results) {
        match result {
            Ok(_) => receipts.push(receipt(&outgoing.event, json)),
            Err(e) => failed = failed.or(Some(e.with("line", number))),
        }
    }
    *published += receipts.len() as u64;
    // Events are published whether or not somebody reads the receipts.
    output::lines(receipts)?;
    failed.or(batch.broken).map_or(Ok(()), Err)
}

/// Writes what was published: its id, or a document with where it went.
fn receipt(event: &Event, json: bool) -> String {
    if json {
        json!({ "id": event.id(), "topic": event.topic(), "type": event.event_type() }).to_string()
    } else {
        output::plain(event.id())
    }
}
