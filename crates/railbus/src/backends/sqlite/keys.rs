//! Order by key: which events of a group wait for an earlier one of their key.
//!
//! What waits has a row that is due at no time; whoever settles the one before makes it due. Which
//! row holds a key is asked whenever one is about to be leased, so that rows that became due in other
//! ways (held back, redriven, replayed) keep the order as well. The index is named in each look:
//! the planner does not know that a key has few rows, and would rather read all of a group's.

use crate::clock::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::HashSet;

/// When a row is due that waits for its key.
pub(super) const NEVER: i64 = i64::MAX;

/// The keys of a group, as one claim sees them.
pub(super) struct Keys<'a> {
    transaction: &'a Transaction<'a>,
    group: i64,
    now: i64,
    // Those that no other row may take in this claim. None if the order of keys is nobody's matter.
    held: Option<HashSet<String>>,
}

impl<'a> Keys<'a> {
    pub(super) fn of(
        transaction: &'a Transaction<'a>,
        group: i64,
        now: Timestamp,
    ) -> rusqlite::Result<Self> {
        let held = is_ordered(transaction, group)?.then(HashSet::new);
        Ok(Self { transaction, group, now: now.as_micros(), held })
    }

    /// Tells whether the order is kept.
    pub(super) fn are_kept(&self) -> bool {
        self.held.is_some()
    }

    /// Holds the key of a row that is due; false if another row holds it.
    ///
    /// One that is leased holds its key, else the earliest of those that have `begun`, else the
    /// earliest that is due: of all that are due now one holds it, so that they never wait for each
    /// other.
    pub(super) fn hold(
        &mut self,
        key: Option<&str>,
        seq: i64,
        begun: bool,
    ) -> rusqlite::Result<bool> {
        let (Some(held), Some(key)) = (&mut self.held, key) else { return Ok(true) };
        if held.contains(key) {
            return Ok(false);
        }
        let another: bool = self
            .transaction
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_keys
                     WHERE grp = ?1 AND key = ?2 AND state = 0
                     AND due < ?5 AND seq <> ?3
                     AND ((leased = 1 AND due > ?4) OR (begun = 1 AND (NOT ?6 OR seq < ?3))
                         OR (due <= ?4 AND NOT ?6 AND seq < ?3)))",
            )?
            .query_row(params![self.group, key, seq, self.now, NEVER, begun], |row| row.get(0))?;
        if !another {
            held.insert(key.into());
        }
        Ok(!another)
    }

    /// Holds the key of an event that has no row yet; false if a row holds it, or waits for it.
    pub(super) fn hold_new(&mut self, key: Option<&str>) -> rusqlite::Result<bool> {
        let (Some(held), Some(key)) = (&mut self.held, key) else { return Ok(true) };
        if held.contains(key) {
            return Ok(false);
        }
        held.insert(key.into());
        let another: bool = self
            .transaction
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_keys
                     WHERE grp = ?1 AND key = ?2 AND state = 0
                     AND (due = ?4 OR begun = 1 OR due <= ?3))",
            )?
            .query_row(params![self.group, key, self.now, NEVER], |row| row.get(0))?;
        Ok(!another)
    }

    /// Lets rows wait for their keys.
    pub(super) fn park(&self, seqs: &[i64]) -> rusqlite::Result<()> {
        let mut park = self
            .transaction
            .prepare_cached("UPDATE deliveries SET due = ?3 WHERE grp = ?1 AND seq = ?2")?;
        for seq in seqs {
            park.execute(params![self.group, seq, NEVER])?;
        }
        Ok(())
    }
}

/// Tells whether a group keeps the order of keys.
pub(super) fn is_ordered(connection: &Connection, group: i64) -> rusqlite::Result<bool> {
    let found = connection
        .prepare_cached("SELECT keyed FROM groups WHERE id = ?1")?
        .query_row([group], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(false))
}

/// Keeps the order of a group's keys from here on.
pub(super) fn keep_order(transaction: &Transaction<'_>, group: i64) -> rusqlite::Result<()> {
    if is_ordered(transaction, group)? {
        return Ok(());
    }
    transaction.execute("UPDATE groups SET keyed = 1 WHERE id = ?1", [group])?;
    transaction.execute(
        "UPDATE deliveries SET key = (SELECT key FROM events e WHERE e.seq = deliveries.seq)
         WHERE grp = ?1 AND state = 0",
        [group],
    )?;
    Ok(())
}

/// Makes due what has waited longest for the key of each event that is through; tells whether there
/// was any.
pub(super) fn free(
    transaction: &Transaction<'_>,
    group: i64,
    through: impl Iterator<Item = i64>,
) -> rusqlite::Result<bool> {
    let mut free = transaction.prepare_cached(
        "UPDATE deliveries SET due = 0 WHERE grp = ?1 AND seq =
            (SELECT next.seq FROM deliveries d CROSS JOIN deliveries next INDEXED BY deliveries_keys
                 ON next.grp = d.grp AND next.key = d.key AND next.state = 0 AND next.due = ?3
             WHERE d.grp = ?1 AND d.seq = ?2 ORDER BY next.seq LIMIT 1)",
    )?;
    let mut any = false;
    for seq in through {
        any |= free.execute(params![group, seq, NEVER])? > 0;
    }
    Ok(any)
}
