//! The bare client: WAL, prepared statements, transactions of 100.

use crate::store::{Place, Sync};
use harness::Result;
use rusqlite::{Connection, TransactionBehavior::Immediate};

/// How many rows a transaction takes in.
const ROWS: u64 = 100;

/// A table of bytes, with a lease for who works on them.
pub(crate) struct Raw(Connection);

impl Raw {
    pub(crate) fn open(place: &Place, sync: Sync) -> Result<Self> {
        let connection = Connection::open(place.file())?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", sync.name())?;
        connection.execute_batch(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, lease INTEGER, body BLOB NOT NULL);",
        )?;
        Ok(Self(connection))
    }

    /// Inserts so many rows, 100 a transaction.
    pub(crate) fn insert(&mut self, rows: u64, body: &[u8]) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            let part = left.min(ROWS);
            let transaction = self.0.transaction_with_behavior(Immediate)?;
            for _ in 0..part {
                let insert = "INSERT INTO events (lease, body) VALUES (0, ?1)";
                transaction.prepare_cached(insert)?.execute([body])?;
            }
            transaction.commit()?;
            left -= part;
        }
        Ok(())
    }

    /// Claims up to 100 rows in one transaction and deletes them in another; returns how many.
    pub(crate) fn consume(&mut self, mut handle: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let mut claimed = Vec::new();
        let transaction = self.0.transaction_with_behavior(Immediate)?;
        {
            let mut claim = transaction.prepare_cached(
                "UPDATE events SET lease = 1 WHERE seq IN
                 (SELECT seq FROM events WHERE lease = 0 ORDER BY seq LIMIT ?1)
                 RETURNING seq, body",
            )?;
            let mut rows = claim.query([ROWS as i64])?;
            while let Some(row) = rows.next()? {
                claimed.push((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
            }
        }
        transaction.commit()?;
        for (_, body) in &claimed {
            handle(body)?;
        }
        let transaction = self.0.transaction_with_behavior(Immediate)?;
        for (seq, _) in &claimed {
            let delete = "DELETE FROM events WHERE seq = ?1 AND lease = 1";
            transaction.prepare_cached(delete)?.execute([seq])?;
        }
        transaction.commit()?;
        Ok(claimed.len() as u64)
    }

    /// Returns how many rows there are.
    pub(crate) fn count(&self) -> Result<u64> {
        Ok(self
            .0
            .query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0))?
            .unsigned_abs())
    }
}
