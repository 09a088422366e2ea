//! The bare client: prepared statements of 100 rows.

use crate::store::connect;
use harness::Result;
use tokio_postgres::{Client, Statement};

/// How many rows a statement takes in.
const ROWS: u64 = 100;

/// A table of bytes, with a lease for who works on them.
pub(crate) struct Raw {
    client: Client,
    insert: Statement,
    claim: Statement,
    delete: Statement,
}

impl Raw {
    /// Makes the table.
    pub(crate) async fn make(url: &str) -> Result<()> {
        let table = "CREATE TABLE raw (seq bigserial PRIMARY KEY, lease timestamptz, \
                     owner bigint, body bytea NOT NULL);
                     CREATE INDEX raw_free ON raw (seq) WHERE lease IS NULL;";
        Ok(connect(url).await?.batch_execute(table).await?)
    }

    pub(crate) async fn open(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        let insert = client.prepare("INSERT INTO raw (body) SELECT unnest($1::bytea[])").await?;
        let claim = client
            .prepare(
                "UPDATE raw SET lease = now() + interval '30 s', owner = $2 WHERE seq IN (
                     SELECT seq FROM raw WHERE lease IS NULL ORDER BY seq LIMIT $1
                     FOR UPDATE SKIP LOCKED)
                 RETURNING seq, body",
            )
            .await?;
        let delete = client.prepare("DELETE FROM raw WHERE seq = ANY ($1) AND owner = $2").await?;
        Ok(Self { client, insert, claim, delete })
    }

    /// Inserts so many rows, 100 a statement.
    pub(crate) async fn insert(&self, rows: u64, body: &[u8]) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            let part = left.min(ROWS);
            let bodies = vec![body; usize::try_from(part)?];
            self.client.execute(&self.insert, &[&bodies]).await?;
            left -= part;
        }
        Ok(())
    }

    /// Claims up to 100 rows and deletes them in another statement; returns how many.
    pub(crate) async fn consume(&self, mut handle: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let rows = self.client.query(&self.claim, &[&(ROWS as i64), &7_i64]).await?;
        let mut seqs: Vec<i64> = Vec::with_capacity(rows.len());
        for row in &rows {
            seqs.push(row.try_get(0)?);
            handle(row.try_get(1)?)?;
        }
        if seqs.is_empty() {
            return Ok(0);
        }
        let deleted = self.client.execute(&self.delete, &[&seqs, &7_i64]).await?;
        Ok(deleted)
    }
}
