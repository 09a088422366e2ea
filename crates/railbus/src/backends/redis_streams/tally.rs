//! Counting a run: each event by its worst outcome, over the groups of the run.

use super::{
    entry::Entry,
    id::Id,
    keys::Keys,
    script::{RUNS, bytes, count, list, number, odd, text},
};
use crate::{
    backend::{RunMark, SharedFilter, Tally},
    backends::redis::link::Link,
    error::Result,
    predicate::Interest,
};
use redis::Value;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// How many events one request reads.
const READ_MAX: usize = 512;

/// A run, and how its groups stand.
#[derive(Debug)]
struct Run {
    begin: Id,
    /// Up to here all is counted but what is open.
    at: Id,
    swept: Tally,
    rejected: u64,
    /// What was not settled when it began, or when it was counted: in which group, and whether it
    /// was published since it began.
    open: HashMap<(usize, Id), bool>,
    groups: Vec<Group>,
}

/// How a group stands.
#[derive(Debug)]
struct Group {
    name: String,
    wants: SharedFilter,
    is_there: bool,
    /// What it had read when the run began.
    from: Id,
    /// What it has read.
    last: Id,
    pending: HashSet<Id>,
    kept: HashMap<Id, u64>,
    outcomes: HashMap<Id, (u8, bool)>,
}

/// How an event stands in a group.
#[derive(Clone, Copy, Debug)]
struct Row {
    is_open: bool,
    delivered: bool,
    class: u8,
    retried: bool,
}

/// What the rows of one event come to.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    is_new: bool,
    is_open: bool,
    delivered: bool,
    class: u8,
    retried: bool,
}

/// Writes down what a run's groups want.
pub(super) fn write(groups: &[(String, Interest)]) -> String {
    // Texts and options of texts always encode.
    serde_json::to_string(groups).unwrap_or_else(|_| "[]".into())
}

impl Group {
    fn row(&self, id: Id, wanted: bool) -> Option<Row> {
        if !self.is_there {
            return None;
        }
        let noted = self.outcomes.get(&id).copied();
        let retried = noted.is_some_and(|(_, retried)| retried);
        let open = |delivered, retried| Row { is_open: true, delivered, class: 0, retried };
        if self.pending.contains(&id) {
            return Some(open(true, retried));
        }
        if let Some(attempt) = self.kept.get(&id) {
            return Some(open(*attempt > 0, retried || *attempt > 1));
        }
        if id > self.last {
            return wanted.then(|| open(false, false));
        }
        match noted {
            Some((class, retried)) if wanted || class != 2 => {
                Some(Row { is_open: false, delivered: true, class: class.max(1), retried })
            }
            _ => {
                wanted.then_some(Row { is_open: false, delivered: true, class: 2, retried: false })
            }
        }
    }
}

impl Sum {
    fn add(&mut self, row: Row) {
        self.is_open |= row.is_open;
        self.delivered |= row.delivered;
        self.retried |= row.retried;
        self.class = self.class.max(row.class);
    }

    fn count(self, tally: &mut Tally) {
        let (new, class) =
            (u64::from(self.is_new), if self.is_open { 0 } else { self.class.max(1) });
        tally.published += new;
        tally.carried += 1 - new;
        tally.delivered += u64::from(self.delivered);
        tally.retried += u64::from(self.retried);
        match class {
            1 => tally.unmatched += 1,
            2 => tally.succeeded += 1,
            3 => tally.failed += 1,
            4 => tally.dead_lettered += 1,
            _ => {}
        }
    }
}

/// Counts a run's events as they stand.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn tally(link: &Link, keys: &Keys, run: RunMark) -> Result<Tally> {
    let Some(about) = look(link, keys, run).await? else { return Ok(Tally::default()) };
    let counted = scan(link, keys, run, &about, None).await?;
    let rejected =
        Tally { published: about.rejected, dead_lettered: about.rejected, ..Tally::default() };
    let mut tally = about.swept + rejected;
    counted.sums.into_values().for_each(|sum| sum.count(&mut tally));
    Ok(tally)
}

/// Counts a run's events up to a place for good, so that they can be trimmed; what is open of them is
/// noted by itself.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn count_upto(link: &Link, keys: &Keys, run: RunMark, upto: Id) -> Result<()> {
    let Some(about) = look(link, keys, run).await?.filter(|about| about.at < upto) else {
        return Ok(());
    };
    let counted = scan(link, keys, run, &about, Some(upto)).await?;
    let mut swept = about.swept;
    counted.sums.into_values().for_each(|sum| sum.count(&mut swept));
    let line = |(n, id, is_new): &(usize, Id, bool)| {
        format!("{} {id} {}", n + 1, if *is_new { 'n' } else { 'c' })
    };
    let open: Vec<String> = counted.open.iter().map(line).collect();
    let is_open: HashSet<_> = counted.open.iter().map(|(n, id, _)| (*n, *id)).collect();
    let done = about.groups.iter().enumerate().flat_map(|(n, group)| {
        let done = group.outcomes.keys().filter(|id| **id <= upto && !is_open.contains(&(n, **id)));
        done.map(|id| (&group.name, id.to_string())).collect::<Vec<_>>()
    });
    let done: Vec<_> = done.collect();
    let swept = serde_json::to_string(&swept).unwrap_or_default();
    let said = RUNS.run(link, keys, "accounts", |command| {
        command.arg("save").arg(run.run).arg(about.at.to_string()).arg(upto.to_string());
        command.arg(&swept).arg(open.len()).arg(&open);
        for (name, id) in &done {
            command.arg(*name).arg(id);
        }
    });
    said.await.map(drop)
}

async fn look(link: &Link, keys: &Keys, run: RunMark) -> Result<Option<Run>> {
    let said = RUNS.run(link, keys, "accounts", |command| {
        command.arg("look").arg(run.run);
    });
    let mut said = list(said.await?).into_iter();
    let Some(groups) = said.next() else { return Ok(None) };
    let mut next = || said.next().unwrap_or(Value::Nil);
    let groups: Vec<(String, Interest)> =
        serde_json::from_str(&text(groups)).map_err(|e| odd("accounts").because(e))?;
    let (begin, at, swept) = (place(next()), place(next()), text(next()));
    let (rejected, open) = (count(&next()), list(next()));
    let standing = list(next()).into_iter().zip(groups).map(|(said, (name, interest))| {
        let mut said = list(said).into_iter();
        let mut next = || said.next().unwrap_or(Value::Nil);
        Group {
            name,
            wants: Arc::new(interest.compile()),
            is_there: number(&next()) == Some(1),
            from: place(next()),
            last: place(next()),
            pending: list(next()).into_iter().map(place).collect(),
            kept: pairs(next()).map(|(id, attempt)| (place(id), count(&attempt))).collect(),
            outcomes: pairs(next()).map(|(id, noted)| (place(id), outcome(&text(noted)))).collect(),
        }
    });
    Ok(Some(Run {
        begin,
        at,
        swept: serde_json::from_str(&swept).unwrap_or_default(),
        rejected,
        groups: standing.collect(),
        open: open.into_iter().filter_map(|one| read_open(&text(one))).collect(),
    }))
}

fn place(value: Value) -> Id {
    Id::read(&bytes(value)).unwrap_or_default()
}

fn pairs(value: Value) -> impl Iterator<Item = (Value, Value)> {
    let mut flat = match value {
        Value::Map(pairs) => pairs.into_iter().flat_map(|(a, b)| [a, b]).collect(),
        flat => list(flat),
    }
    .into_iter();
    std::iter::from_fn(move || Some((flat.next()?, flat.next()?)))
}

fn outcome(text: &str) -> (u8, bool) {
    let (class, retried) = text.split_once(' ').unwrap_or_default();
    (class.parse().unwrap_or(1), retried == "1")
}

fn read_open(text: &str) -> Option<((usize, Id), bool)> {
    let mut words = text.split(' ');
    let n: usize = words.next()?.parse().ok()?;
    Some(((n.checked_sub(1)?, words.next()?.parse().ok()?), words.next()? == "n"))
}

/// What was counted: by the event's id, or by its place where that is not known any more.
#[derive(Debug, Default)]
struct Counted {
    sums: HashMap<String, Sum>,
    /// What is left to be counted later, since one of the groups has it open.
    open: Vec<(usize, Id, bool)>,
}

/// Counts what lies behind what is counted for good, and what was open then; up to a place, what is
/// open is left to later, else all.
async fn scan(
    link: &Link,
    keys: &Keys,
    run: RunMark,
    about: &Run,
    upto: Option<Id>,
) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut seen: HashSet<Id> = HashSet::new();
    let mut from = format!("({}", about.at);
    let to = upto.map_or_else(|| "+".into(), |upto| upto.to_string());
    loop {
        let mut command = redis::cmd("XRANGE");
        command.arg(&keys.stream).arg(&from).arg(&to).arg("COUNT").arg(READ_MAX);
        let page = list(link.ask::<Value>("accounts", &command).await?);
        let is_last = page.len() < READ_MAX;
        for entry in page.into_iter().filter_map(|one| Entry::read(one, keys)) {
            from = format!("({}", entry.id);
            if about.open_in(entry.id).next().is_some() {
                seen.insert(entry.id);
            }
            let (name, is_new, rows) = about.rows(run, &entry);
            if is_new || !rows.is_empty() {
                counted.add(name, entry.id, is_new, &rows, upto.is_some());
            }
        }
        if is_last {
            break;
        }
    }
    let left: HashSet<Id> = about.open.keys().map(|(_, id)| *id).collect();
    for id in left.difference(&seen) {
        let rows: Vec<_> = about.open_in(*id).collect();
        let is_new = rows.iter().any(|(n, _)| about.open.get(&(*n, *id)) == Some(&true));
        if !rows.is_empty() {
            counted.add(id.to_string(), *id, is_new, &rows, upto.is_some());
        }
    }
    Ok(counted)
}

impl Run {
    /// Returns how an event stands in the groups in which it was open.
    fn open_in(&self, id: Id) -> impl Iterator<Item = (usize, Row)> {
        let groups = self.groups.iter().enumerate();
        groups
            .filter(move |(n, _)| self.open.contains_key(&(*n, id)))
            .filter_map(move |(n, group)| Some((n, group.row(id, true)?)))
    }

    /// Returns an event's id, whether it was published since the run began, and how it stands in the
    /// groups that it concerns; what another run published concerns none.
    fn rows(&self, run: RunMark, entry: &Entry) -> (String, bool, Vec<(usize, Row)>) {
        let id = entry.id;
        let event = entry.event();
        let name = event.as_ref().map_or_else(|| id.to_string(), |event| event.id().to_owned());
        let is_new = id > self.begin;
        if is_new && entry.run.is_some_and(|of| of != run.run) {
            return (name, false, Vec::new());
        }
        let mut rows: Vec<_> = self.open_in(id).collect();
        for (n, group) in self.groups.iter().enumerate() {
            let wanted = match &event {
                Some(event) => group.wants.matches(event.event_type(), event.topic()),
                None => !entry.is_ruled_out(&group.wants),
            };
            if id > group.from && !self.open.contains_key(&(n, id)) {
                rows.extend(group.row(id, wanted).map(|row| (n, row)));
            }
        }
        (name, is_new, rows)
    }
}

impl Counted {
    fn add(&mut self, name: String, id: Id, is_new: bool, rows: &[(usize, Row)], later: bool) {
        if later && rows.iter().any(|(_, row)| row.is_open) {
            self.open.extend(rows.iter().map(|(n, _)| (*n, id, is_new)));
            return;
        }
        let sum = self.sums.entry(name).or_default();
        sum.is_new |= is_new;
        rows.iter().for_each(|(_, row)| sum.add(*row));
    }
}
