//! `railbus subscribe`: events as they come, one a line.

use super::{OK, signals::stop_on_signal, store::Shared};
use crate::{args::Subscribe, output};
use railbus::{
    bus::{Bus, On},
    delivery::Then,
    error::Result,
    event::Event,
    predicate::topic,
    retry::Retry,
};
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};

/// The name under which a group remembers what this command did.
const NAME: &str = "railbus-subscribe";

/// How long an output that nobody takes is waited for once the command is to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the store may take to let go.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn subscribe(args: Subscribe, json: bool) -> Result<u8> {
    let shared = Shared::read(&args.url, "subscribe", args.group.is_some())?;
    // From here on a signal drains instead of ending the program.
    let stop = stop_on_signal("printing what is under way")?;
    let bus = shared.open().await?;
    let (asks, asked) = mpsc::channel(1);
    if let Err(e) = open(&bus, &args, asks).await {
        // What refused the subscription says more than the close does.
        let _ = bus.close().await;
        return Err(e);
    }
    let how = match &args.group {
        Some(group) => format!("as group {}", output::plain(group)),
        None => "live, from now on".into(),
    };
    let pattern = output::plain(&args.pattern);
    output::note(&format!("listening to {pattern} on {}, {how}", shared.options));
    let mut printer = Printer { asked, stop, left: args.count, json };
    let ended = printer.run(&bus).await;
    printer.end(&bus, ended).await.map(|()| OK)
}

/// An event that is to be printed, and whom to tell.
struct Ask {
    event: Event,
    printed: oneshot::Sender<()>,
}

async fn open(bus: &Bus, args: &Subscribe, asks: mpsc::Sender<Ask>) -> Result<()> {
    let in_group = args.group.is_some();
    let on = bus.on(topic(&args.pattern)).named(NAME);
    let on = match &args.group {
        Some(group) => grouped(on, group),
        None => on,
    };
    let handler = async move |event: Event| {
        let (printed, told) = oneshot::channel();
        let asked = asks.send(Ask { event, printed }).await.is_ok();
        if !(asked && told.await.is_ok()) && in_group {
            // Not printed is no failed try: it is given back, uncounted, when the bus closes.
            std::future::pending::<()>().await;
        }
    };
    on.run(handler).await.map(|_| ())
}

fn grouped(on: On, group: &str) -> On {
    // One at a time: in order, and nothing is leased beyond the last event wanted. Whatever other
    // members came to with an event before, printing it is never what makes it a dead letter.
    on.group(group).limit(1).retry(Retry::attempts(u32::MAX)).then(Then::Stop)
}

/// Why printing ended.
enum Ended {
    /// So many as were wanted are printed.
    Enough,
    /// A signal came.
    Stopped,
    /// Nobody reads any more, or not in time.
    Unread,
}

struct Printer {
    asked: mpsc::Receiver<Ask>,
    stop: watch::Receiver<bool>,
    left: Option<u64>,
    json: bool,
}

impl Printer {
    /// Prints what comes, until something ends it.
    async fn run(&mut self, bus: &Bus) -> Result<Ended> {
        loop {
            let ask = tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => return Ok(Ended::Stopped),
                error = bus.failed() => return Err(error),
                Some(ask) = self.asked.recv() => ask,
            };
            if !self.print(&ask.event).await? {
                return Ok(Ended::Unread);
            }
            self.left = self.left.map(|left| left - 1);
            let enough = self.left == Some(0);
            if enough {
                // Before the event is acked, so that no other is fetched in its place.
                let _ = bus.drain();
            }
            // Who asked may be gone, if its lease was lost.
            let _ = ask.printed.send(());
            if enough {
                return Ok(Ended::Enough);
            }
        }
    }

    /// Prints an event and flushes it; false if nobody reads it.
    async fn print(&mut self, event: &Event) -> Result<bool> {
        let line = show(event, self.json)?;
        // In a thread of its own: a pipe that nobody empties must not keep signals from being heard.
        let mut writing = spawn_blocking(move || output::line(&line));
        let written = tokio::select! {
            biased;
            written = &mut writing => written,
            _ = self.stop.wait_for(|stop| *stop) => match timeout(PATIENCE, writing).await {
                Ok(written) => written,
                Err(_) => return Ok(false),
            },
        };
        // A panic there was told on stderr; the event was not printed.
        written.unwrap_or(Ok(false))
    }

    /// Closes the bus: what was printed is acked, what was not is given back.
    async fn end(mut self, bus: &Bus, ended: Result<Ended>) -> Result<()> {
        let draining = bus.drain();
        let draining = match ended {
            Ok(Ended::Stopped) => {
                let serving = async {
                    while let Some(ask) = self.asked.recv().await {
                        if !matches!(self.print(&ask.event).await, Ok(true)) {
                            break;
                        }
                        let _ = ask.printed.send(());
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    settled = draining.settle(2 * PATIENCE) => settled,
                    () = serving => bus.drain(),
                }
            }
            Ok(Ended::Enough) => {
                drop(self.asked);
                draining.settle(CLOSE_WITHIN).await
            }
            // One at a time: whatever came before the event that was not printed is settled.
            Ok(Ended::Unread) | Err(_) => {
                drop(self.asked);
                draining.settle(Duration::ZERO).await
            }
        };
        let closed = draining.finish(CLOSE_WITHIN).await;
        ended.and(closed)
    }
}

/// Writes an event as one line: a JSON document, or time, type, topic, id and payload.
fn show(event: &Event, json: bool) -> Result<String> {
    if json {
        return event.to_json();
    }
    let payload = String::from_utf8_lossy(event.raw_payload().text()?);
    Ok(format!(
        "{} {} {} {} {}",
        event.timestamp(),
        output::plain(event.event_type()),
        output::plain(event.topic()),
        output::plain(event.id()),
        output::json_line(&payload),
    ))
}
