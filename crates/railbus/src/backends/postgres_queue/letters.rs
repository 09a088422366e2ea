//! Dead letters: listed, handed back, deleted.

use super::{
    lines::{Lines, Value},
    publish::clean,
};
use crate::{
    backend::{Letter, LetterFilter, LetterId},
    backends::postgres::fault,
    clock::Timestamp,
    codec,
    error::Result,
    topic::Pattern,
};
use bytes::Bytes;
use tokio_postgres::{Row, types::Type};

/// How many letters are read at once.
const PAGE: i64 = 500;

const LIST: &str = "SELECT l.id, e.id, e.type, e.topic, e.body, g.name, l.subscription, l.reason,
        l.attempts, l.at, l.history
    FROM @.letters l JOIN @.events e ON e.seq = l.seq LEFT JOIN @.groups g ON g.id = l.grp
    WHERE l.id > $1 AND ($2 IS NULL OR l.id = $2) AND ($3 IS NULL OR e.id = $3)
      AND ($4 IS NULL OR g.name = $4) AND ($5 IS NULL OR l.subscription = $5)
      AND ($6 IS NULL OR strpos(l.reason, $6) > 0) AND ($7 IS NULL OR l.at >= $7)
    ORDER BY l.id LIMIT $8";

/// Lists the letters that `filter` takes, oldest first.
pub(super) async fn list(lines: &Lines, filter: &LetterFilter) -> Result<Vec<Letter>> {
    let pattern = |text: &Option<String>| text.as_deref().map(Pattern::new);
    let (types, topics) = (pattern(&filter.event_type), pattern(&filter.topic));
    let limit = filter.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let cleaned = |text: &Option<String>| text.as_deref().map(clean);
    let (event, group) = (cleaned(&filter.event_id), cleaned(&filter.group));
    let (subscription, reason) = (cleaned(&filter.subscription), cleaned(&filter.reason));
    let id = filter.id.as_ref().map(number);
    let since = filter.since.map(Timestamp::as_micros);
    let (mut letters, mut last) = (Vec::new(), -1_i64);
    loop {
        let values: [Value<'_>; 8] = [
            (&last, Type::INT8),
            (&id, Type::INT8),
            (&event, Type::TEXT),
            (&group, Type::TEXT),
            (&subscription, Type::TEXT),
            (&reason, Type::TEXT),
            (&since, Type::INT8),
            (&PAGE, Type::INT8),
        ];
        let rows = lines.query("letters", LIST, &values).await?;
        for row in &rows {
            if letters.len() >= limit {
                return Ok(letters);
            }
            let letter = read(row).map_err(|e| fault("letters", &lines.shown, e))?;
            let matches =
                |p: &Option<Pattern>, name: &str| p.as_ref().is_none_or(|p| p.matches(name));
            last = number(&letter.id);
            if matches(&types, &letter.event_type) && matches(&topics, &letter.topic) {
                letters.push(letter);
            }
        }
        if rows.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
            return Ok(letters);
        }
    }
}

/// Returns the number of a letter; what is no number is no letter of this store.
fn number(id: &LetterId) -> i64 {
    id.as_str().parse().unwrap_or(-1)
}

fn read(row: &Row) -> Result<Letter, tokio_postgres::Error> {
    let history: Option<&str> = row.try_get(10)?;
    Ok(Letter {
        id: LetterId::new(row.try_get::<_, i64>(0)?.to_string()),
        event_id: row.try_get(1)?,
        event_type: row.try_get(2)?,
        topic: row.try_get(3)?,
        event: codec::decode(&Bytes::copy_from_slice(row.try_get(4)?)).ok(),
        group: row.try_get(5)?,
        subscription: row.try_get(6)?,
        reason: row.try_get(7)?,
        attempts: u32::try_from(row.try_get::<_, i32>(8)?).unwrap_or(0),
        at: Timestamp::from_micros(row.try_get(9)?),
        history: history.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
    })
}

/// Hands letters back, each to the one subscription it failed in; tells how many.
///
/// Left alone are letters that are gone, lines that never became an event, and events that
/// another subscription of the group is still working on. An event that waits to be tried anew,
/// such as one handed back to another subscription just before, takes this one up as well.
pub(super) async fn redrive(lines: &Lines, ids: &[LetterId]) -> Result<u64> {
    let ids: Vec<i64> = ids.iter().map(number).collect();
    let values: [Value<'_>; 1] = [(&ids, Type::INT8_ARRAY)];
    let redriven: i64 = lines.slow_one("letters", "SELECT @.redrive($1)", &values).await?;
    Ok(redriven.cast_unsigned())
}

/// Deletes letters for ever; tells how many there were.
pub(super) async fn purge(lines: &Lines, ids: &[LetterId]) -> Result<u64> {
    let ids: Vec<i64> = ids.iter().map(number).collect();
    let values: [Value<'_>; 1] = [(&ids, Type::INT8_ARRAY)];
    let purged: i64 = lines.slow_one("letters", "SELECT @.purge($1)", &values).await?;
    Ok(purged.cast_unsigned())
}
