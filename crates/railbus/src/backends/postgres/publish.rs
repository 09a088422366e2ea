//! Events on their way out: written, bundled, notified.

use super::{
    capability::CAPABILITY,
    channels::Channels,
    link::Link,
    session::Session,
    spill::{NOTE_MAX, Spill},
};
use crate::{
    backend::Outgoing,
    backends::gather::{Gather, Limits},
    codec::Format,
    error::{Error, ErrorKind, Result},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio_postgres::types::{ToSql, Type};

/// A notification is not stored, so that waiting for the disk would win nothing; in the statement
/// itself, so that behind a pool it is nobody else's setting.
const ONE: &str = "SELECT pg_notify($1, $2), set_config('synchronous_commit', 'off', true)";

/// As [`ONE`], for several: they reach the listeners in the order of the list.
const MANY: &str = "SELECT count(pg_notify($1, note)), set_config('synchronous_commit', 'off', true) \
                    FROM unnest($2) note";

/// As [`MANY`], each on a channel of its own.
const MANY_NAMED: &str = "SELECT count(pg_notify(channel, note)), \
                          set_config('synchronous_commit', 'off', true) \
                          FROM unnest($1, $2) AS notes (channel, note)";

/// How many bytes go in one statement.
const STATEMENT_BYTES: usize = 1 << 20;

/// An event as it is notified.
pub(super) struct Ready {
    text: String,
    id: String,
    // Where it goes, unless all go to one channel.
    channel: Option<String>,
}

/// How much goes in one statement, and how many statements are on their way at once: the server
/// commits notifications one after another anyway, and a second one is there when it is ready.
const LIMITS: Limits = Limits { items: 1_000, weight: STATEMENT_BYTES, flights: 2, callers: 16 };

/// Puts together what is published at once.
pub(super) fn gather(publisher: Publisher) -> Gather<Ready> {
    let publisher = Arc::new(publisher);
    Gather::new(
        LIMITS,
        |ready: &Ready| ready.text.len(),
        move |batch| {
            let publisher = Arc::clone(&publisher);
            async move { publisher.send(batch).await }
        },
    )
}

/// Publishes what one bus has.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) link: Arc<Link>,
    pub(super) spill: Arc<Spill>,
    /// The channel of what names none.
    pub(super) channel: String,
}

/// Writes an event; none if there is nothing to notify of it.
pub(super) fn write(
    outgoing: &Outgoing,
    format: Format,
    channels: &Channels,
) -> Result<Option<Ready>> {
    if outgoing.rejected.is_some() {
        return Ok(None);
    }
    let event = &outgoing.event;
    event.check()?;
    let (size, most) = (event.text()?.len(), CAPABILITY.payload_max);
    if size > most {
        let why = format!("the payload has {size} bytes; at most {most} are allowed");
        return Err(Error::new(ErrorKind::TooLarge, "publish", why)
            .with("event", event.id())
            .hint("keep the data elsewhere and publish where it is"));
    }
    let text = String::from_utf8(format.encode(event)?).map_err(|e| {
        Error::new(ErrorKind::Encode, "publish", "the event is not UTF-8").because(e)
    })?;
    let channel = match channels {
        Channels::One(_) => None,
        named => Some(named.of(event.topic())?),
    };
    let ready = Ready { text, id: event.id().into(), channel };
    ready.check()?;
    Ok(Some(ready))
}

impl Ready {
    /// Refuses what is too large for a channel where nobody would fetch it.
    fn check(&self) -> Result<()> {
        let size = self.text.len();
        if self.channel.is_none() || size <= NOTE_MAX {
            return Ok(());
        }
        let why = format!("the event has {size} bytes; at most {NOTE_MAX} are allowed");
        Err(Error::new(ErrorKind::TooLarge, "publish", why)
            .with("event", &self.id)
            .hint("programs of others can't fetch what is larger: use format=cloudevents"))
    }
}

impl Publisher {
    /// Notifies events, in order, and returns one result each.
    async fn send(&self, mut batch: Vec<Ready>) -> Vec<Result<()>> {
        match self.link.client("publish").await {
            // Before it is counted how much there is.
            Ok(session) if !session.is_utf8 => {
                batch.iter_mut().for_each(|ready| ready.text = ascii(&ready.text));
            }
            Ok(_) => {}
            Err(e) => return vec![Err(e); batch.len()],
        }
        make_distinct(&mut batch);
        let mut results = Vec::with_capacity(batch.len());
        let mut rest = &mut batch[..];
        while !rest.is_empty() {
            let (part, after) = rest.split_at_mut(one_statement(rest));
            self.send_part(part, &mut results).await;
            rest = after;
        }
        results
    }

    /// Sends what fits in one statement.
    async fn send_part(&self, part: &mut [Ready], results: &mut Vec<Result<()>>) {
        let session = match self.link.client("publish").await {
            Ok(session) => session,
            Err(e) => return results.extend(part.iter().map(|_| Err(e.clone()))),
        };
        if let [ready] = part {
            return results.push(self.send_one(&session, ready).await);
        }
        match self.send_together(&session, part).await {
            Ok(_) => results.extend(part.iter().map(|_| Ok(()))),
            // None of them was notified. One of them may be what the server minds.
            Err(e) if !e.is_retryable() && !session.has_ended() => {
                for ready in part {
                    results.push(self.send_one(&session, ready).await);
                }
            }
            Err(e) => results.extend(part.iter().map(|_| Err(e.clone()))),
        }
    }

    async fn send_together(&self, session: &Session, part: &[Ready]) -> Result<()> {
        let notes: Vec<_> = part.iter().map(|ready| &*ready.text).collect();
        let (channel, named): (_, Vec<_>) =
            (&*self.channel, part.iter().filter_map(|ready| ready.channel.as_deref()).collect());
        let notes = (&notes as &(dyn ToSql + Sync), Type::TEXT_ARRAY);
        let sent = match named.is_empty() {
            true => session.query("publish", MANY, &[(&channel, Type::TEXT), notes]).await,
            false => {
                session.query("publish", MANY_NAMED, &[(&named, Type::TEXT_ARRAY), notes]).await
            }
        };
        sent.map(drop)
    }

    async fn send_one(&self, session: &Session, ready: &Ready) -> Result<()> {
        ready.check()?;
        if ready.text.len() > NOTE_MAX {
            return self.spill.publish(&self.channel, ready.text.as_bytes()).await;
        }
        let (channel, text) = (ready.channel.as_deref().unwrap_or(&self.channel), &*ready.text);
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&channel, Type::TEXT), (&text, Type::TEXT)];
        session.query("publish", ONE, &values).await.map(drop)
    }
}

/// Returns how many of these go in one statement: what is spilled goes alone, and so does what is the
/// same as one before it.
fn one_statement(batch: &[Ready]) -> usize {
    let (mut bytes, mut seen) = (0, HashSet::with_capacity(batch.len()));
    let small = batch.iter().take_while(|ready| {
        bytes += ready.text.len();
        ready.text.len() <= NOTE_MAX
            && bytes <= STATEMENT_BYTES
            && seen.insert((&ready.channel, &*ready.text))
    });
    small.count().max(1)
}

/// The server tells a listener only once what is notified twice in a transaction, and an event may be
/// published twice, or be nothing but its payload: white space behind it makes a difference that is
/// none, as long as there is room for it.
fn make_distinct(batch: &mut [Ready]) {
    if batch.len() < 2 {
        return;
    }
    let mut times: HashMap<_, usize> = HashMap::with_capacity(batch.len());
    let mut again = Vec::new();
    for (at, ready) in batch.iter().enumerate() {
        let before = times.entry((&ready.channel, &*ready.text)).or_default();
        if *before > 0 && ready.text.len() + *before <= NOTE_MAX {
            again.push((at, *before));
        }
        *before += 1;
    }
    for (at, before) in again {
        batch[at].text.extend(std::iter::repeat_n(' ', before));
    }
}

/// Writes JSON so that every encoding can have it. Beyond ASCII there is something only inside
/// strings.
fn ascii(json: &str) -> String {
    if json.is_ascii() {
        return json.into();
    }
    let mut text = String::with_capacity(json.len() * 2);
    for c in json.chars() {
        match c.is_ascii() {
            true => text.push(c),
            false => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(id: &str, text: &str) -> Ready {
        Ready { id: id.into(), text: text.into(), channel: None }
    }

    #[test]
    fn what_is_published_twice_at_once_is_notified_twice() {
        let mut batch = [ready("a", "{}"), ready("b", "{}"), ready("a", "{}"), ready("a", "{}")];
        make_distinct(&mut batch);
        let of_a: HashSet<_> = batch.iter().filter(|r| r.id == "a").map(|r| &r.text).collect();
        assert_eq!(of_a.len(), 3);
        assert!(of_a.iter().all(|text| text.trim_end() == "{}"));
        let all: HashSet<_> = batch.iter().map(|r| &r.text).collect();
        assert_eq!((all.len(), one_statement(&batch)), (4, 4), "whichever their ids are");
    }

    #[test]
    fn what_is_the_same_and_has_no_room_for_a_difference_goes_in_statements_of_its_own() {
        let full = "1".repeat(NOTE_MAX);
        let mut batch = [ready("a", &full), ready("b", &full), ready("c", "{}")];
        make_distinct(&mut batch);
        assert_eq!((one_statement(&batch), one_statement(&batch[1..])), (1, 2));
    }

    #[test]
    fn a_text_in_ascii_means_the_same() {
        let json = r#"{"é":"𝄞 日本","a":"\\u"}"#;
        let text = ascii(json);
        assert!(text.is_ascii(), "{text}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&text), read(json));
    }

    #[test]
    fn what_is_too_large_for_a_notification_goes_alone() {
        let large = "x".repeat(NOTE_MAX + 1);
        let batch = [ready("a", "{}"), ready("b", &large), ready("c", "{}")];
        assert_eq!((one_statement(&batch), one_statement(&batch[1..])), (1, 1));
        let text = |i: usize| format!("{i:04}{}", &large[..NOTE_MAX - 4]);
        let many: Vec<_> = (0..1000).map(|i| ready(&i.to_string(), &text(i))).collect();
        assert_eq!(one_statement(&many), STATEMENT_BYTES / NOTE_MAX);
    }
}
