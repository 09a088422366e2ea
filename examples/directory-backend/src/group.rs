//! A group: a folder with its state, and a file for each event that it has not settled.
//!
//! Whoever changes a group holds its lock, which the system lets go of when a process dies. Each
//! change is one rename, so that a process may die between any two.

use crate::{
    files::{delete, failed, get, lock, micros, name_of, names, now, put},
    letters, log,
    name::Name,
};
use railbus::{
    Error, ErrorKind, Result,
    backend::{GroupInfo, HISTORY_MAX, Leased, Receipt, Settle, Start, Verdict},
    clock::Timestamp,
    delivery::Try,
    predicate::{Filter, Interest},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// How many events a group takes out of the log ahead of its members.
const AHEAD: usize = 256;

/// A group of a directory.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    root: PathBuf,
    folder: PathBuf,
}

/// What a group is.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    name: String,
    interest: Interest,
    /// The last event that it took out of the log.
    cursor: u64,
    /// Counts its leases, so that no two are the same.
    fences: u64,
    last_seen: u64,
}

/// An event that is not settled.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Open {
    attempt: u32,
    /// Its lease, among all of the group.
    fence: u64,
    lost: bool,
    finished: Vec<String>,
    history: Vec<Try>,
    only: Option<String>,
}

impl Group {
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        Self { root: root.into(), folder: root.join("groups").join(name_of(name)) }
    }

    /// Returns all groups of a directory.
    pub(crate) fn all(root: &Path) -> Result<Vec<Self>> {
        let folders = names(&root.join("groups"))?;
        let group =
            |name: String| Self { root: root.into(), folder: root.join("groups").join(name) };
        let all = folders.into_iter().map(group);
        Ok(all.filter(|group| group.folder.join("state").exists()).collect())
    }

    fn state(&self) -> Result<State> {
        get(&self.folder.join("state"))?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "group", "there is no such group")
                .with("path", self.folder.display())
                .hint("subscribe again to open it anew")
        })
    }

    fn save(&self, state: &State) -> Result<()> {
        put(&self.root, &self.folder.join("state"), state)
    }

    /// Locks the group, whether it is there or not: its lock is not in its folder, and stays when that
    /// is deleted. Else one who waits for it would have the lock of a group that is gone, and the next
    /// one another.
    fn locked(&self) -> Result<fs::File> {
        let name = self.folder.file_name().unwrap_or_default();
        let locks = self.root.join("locks");
        fs::create_dir_all(&locks).map_err(failed("lock", &locks))?;
        lock(&locks.join(name))
    }

    /// Joins, beginning the group if nobody has.
    pub(crate) fn join(&self, name: &str, interest: &Interest, start: Start) -> Result<()> {
        let _lock = self.locked()?;
        let open = self.folder.join("open");
        fs::create_dir_all(&open).map_err(failed("subscribe", &open))?;
        let mut state = match get::<State>(&self.folder.join("state"))? {
            Some(state) => state,
            None => State {
                name: name.into(),
                interest: Interest::default(),
                cursor: self.place_of(start)?,
                fences: 0,
                last_seen: now(),
            },
        };
        state.interest.add(interest);
        self.save(&state)
    }

    /// Returns the last event before a start.
    fn place_of(&self, start: Start) -> Result<u64> {
        match start {
            Start::Oldest => Ok(0),
            Start::At(time) => {
                let at = u64::try_from(time.as_micros()).unwrap_or(0);
                let mut number = 0;
                while log::read(&self.root, number + 1)?.is_some_and(|entry| entry.head.at < at) {
                    number += 1;
                }
                Ok(number)
            }
            _ => Ok(log::last(&self.root, 0)),
        }
    }

    /// Returns what is not settled, in order; of two files of one event, which only a death in the
    /// middle of a change leaves, the newer one.
    ///
    /// Only for who holds the lock.
    fn open(&self) -> Result<Vec<Name>> {
        let folder = self.folder.join("open");
        let mut all: Vec<_> = names(&folder)?.iter().filter_map(|name| Name::parse(name)).collect();
        all.sort();
        let mut open: Vec<Name> = Vec::with_capacity(all.len());
        for name in all {
            let same =
                |last: &&mut Name| (last.number, &last.letter) == (name.number, &name.letter);
            match open.last_mut().filter(|last| same(last)) {
                Some(last) => {
                    delete(&folder.join(last.text()))?;
                    *last = name;
                }
                None => open.push(name),
            }
        }
        Ok(open)
    }

    /// Puts a changed event in the place of what it was; returns what its file is called now.
    fn change(&self, from: &Name, due: u64, held: bool, open: &Open) -> Result<Name> {
        let to = Name { changed: from.changed + 1, due, held, ..from.clone() };
        put(&self.root, &self.folder.join("open").join(to.text()), open)?;
        delete(&self.folder.join("open").join(from.text()))?;
        Ok(to)
    }

    fn read(&self, name: &Name) -> Result<Open> {
        let open = get(&self.folder.join("open").join(name.text()))?;
        open.ok_or_else(|| Error::new(ErrorKind::Corrupt, "group", "an event's file is gone"))
    }

    /// Leases up to `max` events that are wanted.
    pub(crate) fn claim(
        &self,
        wanted: &Filter,
        lease: Duration,
        max: usize,
    ) -> Result<Vec<Leased>> {
        let _lock = self.locked()?;
        let mut state = self.state()?;
        let open = self.advance(&mut state)?;
        let time = now();
        let mut leased = Vec::new();
        let mut due: Vec<_> = open.into_iter().filter(|name| name.due <= time).collect();
        // What was delivered before comes first, then what is new, each in its order.
        due.sort_by_key(|name| (name.changed == 0, name.number));
        for name in due {
            if leased.len() == max {
                break;
            }
            let Some(entry) = log::read(&self.root, name.number)? else { continue };
            if !entry.is_wanted(wanted) {
                continue;
            }
            let mut open = self.read(&name)?;
            open.lost = name.held;
            if open.lost {
                let reason = "the lease ran out unsettled: the handler hung or its process died";
                open.remember([Try {
                    attempt: open.attempt,
                    at: Timestamp::now(),
                    subscription: String::new(),
                    reason: reason.into(),
                }]);
            }
            state.fences += 1;
            (open.attempt, open.fence) = (open.attempt.saturating_add(1), state.fences);
            self.change(&name, time.saturating_add(micros(lease)), true, &open)?;
            leased.push(Leased {
                receipt: Receipt {
                    place: name.number,
                    fence: open.fence,
                    token: (!name.letter.is_empty()).then(|| name.letter.into()),
                },
                event: entry.event(),
                attempt: open.attempt,
                lost: open.lost,
                finished: open.finished,
                only: open.only,
            });
        }
        if !leased.is_empty() {
            state.last_seen = time;
            self.save(&state)?;
        }
        Ok(leased)
    }

    /// Takes events of interest out of the log; returns what is not settled then.
    fn advance(&self, state: &mut State) -> Result<Vec<Name>> {
        let filter = state.interest.compile();
        let mut open = self.open()?;
        let ready = open.iter().filter(|name| !name.held).count();
        let (mut count, before) = (ready, state.cursor);
        while count < AHEAD
            && let Some(entry) = log::read(&self.root, state.cursor + 1)?
        {
            state.cursor += 1;
            let number = state.cursor;
            // It is there if someone died before the cursor was written.
            let there = open.iter().any(|name| name.number == number && name.letter.is_empty());
            if entry.is_wanted(&filter) && !there {
                let name = Name::new(number);
                put(&self.root, &self.folder.join("open").join(name.text()), &Open::default())?;
                open.push(name);
                count += 1;
            }
        }
        if state.cursor != before {
            self.save(state)?;
        }
        Ok(open)
    }

    /// Settles a batch; each has its own result.
    pub(crate) fn settle(&self, batch: &[Settle], lease: Duration) -> Result<Vec<Result<()>>> {
        let _lock = self.locked()?;
        let name = self.state()?.name;
        let mut open = self.open()?;
        Ok(batch.iter().map(|settle| self.settle_one(&name, &mut open, settle, lease)).collect())
    }

    /// Settles one of what is `open`, and keeps that true: one may be settled twice in a batch.
    fn settle_one(
        &self,
        group: &str,
        open: &mut Vec<Name>,
        settle: &Settle,
        lease: Duration,
    ) -> Result<()> {
        let Receipt { place, fence, token } = &settle.receipt;
        let letter = token.as_deref().unwrap_or_default();
        let stale = || Error::new(ErrorKind::Stale, "settle", "the lease was lost");
        let is_it = |name: &Name| name.number == *place && name.letter == letter && name.held;
        let nth = open.iter().position(is_it).ok_or_else(stale)?;
        let name = &open[nth];
        let mut record = self.read(name)?;
        if record.fence != *fence {
            return Err(stale());
        }
        letters::write(&self.root, group, *place, &record.history, record.attempt, settle)?;
        record.remember(settle.failed.iter().cloned());
        for (name, _) in &settle.ended {
            if !record.finished.iter().any(|known| **known == **name) {
                record.finished.push(name.to_string());
            }
        }
        let (after, held) = match settle.verdict {
            Verdict::Ack => {
                delete(&self.folder.join("open").join(name.text()))?;
                open.swap_remove(nth);
                return Ok(());
            }
            Verdict::Nack { delay } => (delay, false),
            Verdict::Release { delay } => {
                record.attempt = record.attempt.saturating_sub(1);
                (delay, false)
            }
            Verdict::Extend { tries } => {
                record.attempt = record.attempt.saturating_add(tries);
                (lease, true)
            }
            _ => return Err(Error::new(ErrorKind::Unsupported, "settle", "an unknown verdict")),
        };
        open[nth] = self.change(name, now().saturating_add(micros(after)), held, &record)?;
        Ok(())
    }

    /// Gives an event to one subscription anew, from its dead letter.
    pub(crate) fn redrive(&self, number: u64, letter: &str, subscription: &str) -> Result<bool> {
        let _lock = self.locked()?;
        let path = letters::path(&self.root, letter);
        if !path.exists() {
            return Ok(false);
        }
        let name = Name { letter: letter.into(), ..Name::new(number) };
        let open = Open { only: Some(subscription.into()), ..Open::default() };
        put(&self.root, &self.folder.join("open").join(name.text()), &open)?;
        delete(&path)
    }

    /// Lets the group see again what it has settled since `start`; tells how much. What is not settled
    /// is there, and stays with who has it.
    pub(crate) fn replay(&self, start: Start) -> Result<u64> {
        let _lock = self.locked()?;
        let state = self.state()?;
        let (filter, open) = (state.interest.compile(), self.open()?);
        let mut again = 0;
        for number in self.place_of(start)? + 1..=state.cursor {
            let Some(entry) = log::read(&self.root, number)? else { continue };
            let there = open.iter().any(|name| name.number == number && name.letter.is_empty());
            if entry.is_wanted(&filter) && !there {
                let path = self.folder.join("open").join(Name::new(number).text());
                put(&self.root, &path, &Open::default())?;
                again += 1;
            }
        }
        Ok(again)
    }

    /// Counts the events of interest after a number.
    fn count(&self, state: &State, mut number: u64) -> Result<u64> {
        let filter = state.interest.compile();
        let mut count = 0;
        while let Some(entry) = log::read(&self.root, number + 1)? {
            number += 1;
            count += u64::from(entry.is_wanted(&filter));
        }
        Ok(count)
    }

    /// Tells how it stands; none if it was pruned meanwhile.
    pub(crate) fn info(&self) -> Result<Option<GroupInfo>> {
        let Some(state) = get::<State>(&self.folder.join("state"))? else { return Ok(None) };
        // Looked at without the lock, so that it may be about to change.
        let names = names(&self.folder.join("open"))?;
        let open: Vec<_> = names.iter().filter_map(|name| Name::parse(name)).collect();
        let time = now();
        let letters = letters::all(&self.root)?;
        let of_group = |l: &&railbus::backend::Letter| l.group.as_ref() == Some(&state.name);
        Ok(Some(GroupInfo {
            lag: open.len() as u64 + self.count(&state, state.cursor)?,
            leased: open.iter().filter(|name| name.held && name.due > time).count() as u64,
            dead_letters: letters.iter().filter(of_group).count() as u64,
            last_seen: Timestamp::from_micros(i64::try_from(state.last_seen).unwrap_or(i64::MAX)),
            name: state.name,
            interest: state.interest,
        }))
    }

    /// Forgets the group.
    pub(crate) fn prune(&self) -> Result<()> {
        let _lock = self.locked()?;
        self.state()?;
        // Without its state it is no group any more, whatever is left of it.
        delete(&self.folder.join("state"))?;
        fs::remove_dir_all(&self.folder).map_err(failed("prune", &self.folder))
    }
}

impl Open {
    /// Adds failed tries, keeping the latest.
    fn remember(&mut self, failed: impl IntoIterator<Item = Try>) {
        self.history.extend(failed);
        let surplus = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..surplus);
    }
}
