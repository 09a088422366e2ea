//! Settling: what became of leased events.

use super::{
    id::{Id, Text, millis},
    keys::Keys,
    script::{SETTLE, list, number, odd, text},
};
use crate::{
    backend::{Settle, Verdict},
    backends::redis::link::Link,
    clock::Timestamp,
    delivery::{End, Try},
    error::{Error, ErrorKind, Result},
};
use redis::{Cmd, Pipeline, Value, aio::MultiplexedConnection};
use std::collections::BTreeMap;

/// How many events one call of the script settles.
pub(super) const BATCH_MAX: usize = 256;

/// What becomes of one lease, as the script takes it.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    pub(super) id: Id,
    pub(super) fence: u64,
    // What stands for the fence on the server, if it was read and not touched since.
    fresh: Option<u64>,
    verb: &'static str,
    number: u64,
    // How it ended, by the worst, and whether it was tried more than once.
    came: (u8, bool),
    through: String,
    history: String,
    letters: Vec<(String, String)>,
}

impl Fate {
    /// Gives back an event that was not begun: free for all again, or left to the others, or held
    /// back for so long after its publishing.
    pub(super) fn aside(id: Id, fence: u64, aside: Aside) -> Self {
        let (verb, number) = match aside {
            Aside::Dropped => ("a", 0),
            Aside::Left => ("s", 0),
            Aside::GivenBack => ("r", 0),
            Aside::HeldBack(delay) => ("p", delay),
        };
        Self {
            id,
            fence,
            // It has no other: it was handed out to nobody.
            fresh: Some(fence),
            verb,
            number,
            came: (0, false),
            through: String::new(),
            history: String::new(),
            letters: Vec::new(),
        }
    }

    /// Writes down what a settlement says, with what stands for its fence on the server if its event
    /// was read and not touched since.
    pub(super) fn of(settle: &Settle, fresh: Option<u64>) -> Self {
        let (verb, number) = match settle.verdict {
            Verdict::Ack => ("a", 0),
            Verdict::Nack { delay } => ("n", millis(delay)),
            Verdict::Extend { tries } => ("x", u64::from(tries)),
            Verdict::Release { delay } => ("r", millis(delay)),
        };
        let letters = settle.ended.iter().filter_map(|(name, end)| match end {
            End::Dead(reason) => Some((name.to_string(), reason.clone())),
            _ => None,
        });
        Self {
            id: Id::of(&settle.receipt),
            fence: settle.receipt.fence,
            fresh,
            verb,
            number,
            came: (
                settle.ended.iter().map(|(_, end)| class(end)).max().unwrap_or(0),
                settle.retried,
            ),
            through: settle.ended.iter().map(|(name, end)| ended_line(name, Some(end))).collect(),
            history: settle.failed.iter().map(try_line).collect(),
            letters: letters.collect(),
        }
    }

    fn write(&self, command: &mut Cmd) {
        let fresh = self.fresh.map(|fresh| fresh.to_string()).unwrap_or_default();
        command.arg(self.id.to_string()).arg(self.fence).arg(fresh);
        command.arg(self.verb).arg(self.number);
        command.arg(format!("{}{}", self.came.0, u8::from(self.came.1)));
        command.arg(&self.through).arg(&self.history).arg(self.letters.len());
        for (subscription, reason) in &self.letters {
            command.arg(subscription).arg(reason);
        }
    }
}

/// What becomes of an event that is not handed out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aside {
    /// Nobody in the group wants it.
    Dropped,
    /// Another member wants it.
    Left,
    /// Nobody is there to take it.
    GivenBack,
    /// It was published with a delay, of so many milliseconds.
    HeldBack(u64),
}

/// What came of one settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It was settled.
    Settled,
    /// There is nothing to settle, be it that it was settled before.
    Gone,
    /// It is another lease's by now.
    Lost,
    /// Nobody has read it, by all the server knows: it has lost what it did last.
    Unread,
}

/// What settling came to.
#[derive(Debug)]
pub(super) enum Settled {
    /// What came of each.
    Each(Vec<Came>),
    /// Nothing was: the group's interest is another, of this version.
    Wider(String, String),
}

/// Settles leases; with a version, only if the group's interest is still that.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn settle(
    link: &Link,
    keys: &Keys,
    (group, member): (&str, &str),
    lease: u64,
    version: &str,
    fates: &[Fate],
) -> Result<Settled> {
    let mut kept = Vec::with_capacity(fates.len());
    for part in fates.chunks(BATCH_MAX) {
        let said = SETTLE.run(link, keys, "settle", |command| {
            command.arg(group).arg(member).arg(lease).arg(version);
            part.iter().for_each(|fate| fate.write(command));
        });
        let mut said = list(said.await?).into_iter();
        let mut next = || said.next().unwrap_or(Value::Nil);
        match &*text(next()) {
            "ok" => kept.extend(list(next()).iter().map(|one| match number(one) {
                Some(1) => Came::Settled,
                Some(2) => Came::Lost,
                Some(3) => Came::Unread,
                _ => Came::Gone,
            })),
            "wider" => return Ok(Settled::Wider(text(next()), text(next()))),
            // The group is gone, and so are its leases.
            "gone" => kept.extend(part.iter().map(|_| Came::Lost)),
            _ => return Err(odd("settle")),
        }
    }
    Ok(Settled::Each(kept))
}

/// Acknowledges events that were read and not touched since, by this connection; tells how many were.
/// None are in a consumer group of an older generation: it is gone.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn acknowledge(
    link: &Link,
    way: (u64, MultiplexedConnection),
    keys: &Keys,
    native: &str,
    ids: &[Id],
) -> Result<usize> {
    let mut command = Cmd::with_capacity(ids.len() + 3, ids.len() * 16 + 64);
    command.arg("XACK").arg(&keys.stream).arg(native);
    let mut text = Text::default();
    for id in ids {
        command.arg(id.text(&mut text));
    }
    let said = link.ask_by::<Value>(way, "settle", &command).await?;
    Ok(number(&said).and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
}

/// Tells which events are kept beside the stream.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn are_kept(
    link: &Link,
    keys: &Keys,
    group: &str,
    ids: &[Id],
) -> Result<Vec<bool>> {
    let (mut commands, kept) = (Pipeline::with_capacity(ids.len()), keys.kept(group));
    for id in ids {
        commands.cmd("HEXISTS").arg(&kept).arg(id.to_string());
    }
    let (_, said) = link.ask_all("settle", &commands).await?;
    Ok(said.iter().map(|is| number(is) == Some(1)).collect())
}

/// Ranks how a subscription got through, as accounts count it: the worst is the highest.
fn class(end: &End) -> u8 {
    match end {
        End::Unmatched => 1,
        End::Done => 2,
        End::Failed(_) => 3,
        End::Dead(_) => 4,
    }
}

/// Tells whether nothing of a settlement is worth keeping: it went well, and at once.
pub(super) fn is_plain(settle: &Settle) -> bool {
    let well = |(_, end): &(_, End)| matches!(end, End::Done | End::Unmatched);
    settle.verdict == Verdict::Ack
        && settle.failed.is_empty()
        && !settle.retried
        && settle.ended.iter().all(well)
        // Accounts tell what nobody wanted from what was handled.
        && (settle.ended.is_empty() || settle.ended.iter().any(|(_, end)| *end == End::Done))
}

/// Returns the error for a lease that another member has by now.
pub(super) fn stale() -> Error {
    Error::new(ErrorKind::Stale, "settle", "the lease was lost: the event is another member's now")
}

/// Returns the error for an event that the server has to give once more before it can be settled.
pub(super) fn unread() -> Error {
    let why = "the server has forgotten who has the event, and was not asked for it again yet";
    Error::new(ErrorKind::Unavailable, "settle", why)
}

/// Writes how a subscription got through, as a line; with none, that it is not through.
pub(super) fn ended_line(name: &str, end: Option<&End>) -> String {
    let json = |text: Result<String, serde_json::Error>| text.unwrap_or_default();
    format!("{}\t{}\n", json(serde_json::to_string(name)), json(serde_json::to_string(&end)))
}

/// Reads the names of those who are through; the last word on each counts.
pub(super) fn through(lines: &str) -> Vec<String> {
    let mut all: BTreeMap<String, bool> = BTreeMap::new();
    for (name, end) in lines.lines().filter_map(|line| line.split_once('\t')) {
        if let Ok(name) = serde_json::from_str(name) {
            all.insert(name, end != "null");
        }
    }
    all.into_iter().filter_map(|(name, through)| through.then_some(name)).collect()
}

fn try_line(one: &Try) -> String {
    serde_json::to_string(one).map(|line| line + "\n").unwrap_or_default()
}

/// Reads a history. A lease that ran out was a failed try, noted by the server: `!attempt ms`.
pub(super) fn history(lines: &str) -> Vec<Try> {
    let lost = |line: &str| {
        let (attempt, ms) = line.strip_prefix('!')?.split_once(' ')?;
        Some(Try {
            attempt: attempt.parse().ok()?,
            at: Timestamp::from_micros(ms.parse::<i64>().ok()?.saturating_mul(1000)),
            subscription: String::new(),
            reason: "the lease ran out unsettled: the process died, or hung".into(),
        })
    };
    let read = |line: &str| lost(line).or_else(|| serde_json::from_str(line).ok());
    lines.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_subscription_counts() {
        let lines = [
            ended_line("a", Some(&End::Done)),
            ended_line("b\t\n", Some(&End::Dead("no\ncard".into()))),
            ended_line("a", None),
        ];
        assert_eq!(through(&lines.concat()), ["b\t\n"]);
    }

    #[test]
    fn a_history_has_lost_leases_among_its_tries() {
        let one = Try {
            attempt: 2,
            at: Timestamp::from_micros(7),
            subscription: "s".into(),
            reason: "a\nb".into(),
        };
        let read = history(&format!("!1 5\n{}garbage\n", try_line(&one)));
        assert_eq!((read.len(), read[0].attempt, &read[1]), (2, 1, &one));
        assert_eq!(read[0].at, Timestamp::from_micros(5000));
    }
}
