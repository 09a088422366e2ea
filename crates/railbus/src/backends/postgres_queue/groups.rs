//! Groups: what they want, how far they are, and what is left of them.

use super::{
    lines::{Lines, Value},
    wants::Wants,
};
use crate::{
    backend::{GroupInfo, Order, Start},
    backends::postgres::fault,
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
    predicate::Interest,
};
use tokio_postgres::{Row, types::Type};

/// How often opening a group is tried while others change what it wants.
const TRIES: usize = 100;

/// Writes a start as the server's functions take it.
fn written(start: Start) -> (i32, i64) {
    match start {
        Start::Oldest => (0, 0),
        Start::Newest => (1, 0),
        Start::At(time) => (2, time.as_micros()),
    }
}

/// Refuses a name that the server's texts can't have.
fn check(name: &str) -> Result<()> {
    if name.contains('\0') {
        let why = "the group's name has a NUL character";
        return Err(Error::new(ErrorKind::Config, "subscribe", why)
            .with("group", name.escape_debug())
            .hint("give it another name"));
    }
    Ok(())
}

/// Opens a group, creating it at `start`, and adds `interest` to what it wants; returns its row,
/// and whether it keeps the order of keys.
pub(super) async fn open(
    lines: &Lines,
    name: &str,
    interest: &Interest,
    start: Start,
    order: Order,
) -> Result<(i32, bool)> {
    check(name)?;
    lines.tick("subscribe").await?;
    for _ in 0..TRIES {
        let values: [Value<'_>; 1] = [(&name, Type::TEXT)];
        let found = "SELECT g.interest FROM @.groups g WHERE g.name = $1";
        let rows = lines.query("subscribe", found, &values).await?;
        let thought = match rows.first() {
            Some(row) => {
                Some(row.try_get::<_, String>(0).map_err(|e| fault("subscribe", &lines.shown, e))?)
            }
            None => None,
        };
        let mut union = match &thought {
            Some(text) => read_interest(text)?,
            None => interest.clone(),
        };
        let grew = union.add(interest) || thought.is_none();
        let wanted = match (&thought, grew) {
            (Some(same), false) => same.clone(),
            _ => write_interest(&union),
        };
        let Wants { types, topics } = Wants::of(&union);
        let by_key = order == Order::ByKey;
        let (what, at) = written(start);
        let values: [Value<'_>; 8] = [
            (&name, Type::TEXT),
            (&thought, Type::TEXT),
            (&wanted, Type::TEXT),
            (&types, Type::TEXT_ARRAY),
            (&topics, Type::TEXT_ARRAY),
            (&by_key, Type::BOOL),
            (&what, Type::INT4),
            (&at, Type::INT8),
        ];
        let open = "SELECT o.id, o.keyed FROM @.open_group($1, $2, $3, $4, $5, $6, $7, $8) AS o";
        let rows = lines.query("subscribe", open, &values).await?;
        if let Some(row) = rows.first() {
            let failed = |e| fault("subscribe", &lines.shown, e);
            return Ok((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?));
        }
    }
    let why = "others keep changing what the group wants";
    Err(Error::new(ErrorKind::Unavailable, "subscribe", why).with("group", name))
}

fn write_interest(interest: &Interest) -> String {
    // Texts and options of texts always encode.
    serde_json::to_string(interest).unwrap_or_else(|_| "[{}]".into())
}

fn read_interest(text: &str) -> Result<Interest> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(ErrorKind::Corrupt, "groups", "a group's interest is not as it was written")
            .hint("someone changed it: delete the row, or restore it")
            .because(e)
    })
}

/// Lists the groups by name.
pub(super) async fn list(lines: &Lines) -> Result<Vec<GroupInfo>> {
    lines.tick("groups").await?;
    let rows = lines.slow("groups", "SELECT * FROM @.list_groups()", &[]).await?;
    rows.iter().map(|row| read(lines, row)).collect()
}

fn read(lines: &Lines, row: &Row) -> Result<GroupInfo> {
    let failed = |e| fault("groups", &lines.shown, e);
    let count = |at| row.try_get::<_, i64>(at).map(i64::cast_unsigned).map_err(failed);
    Ok(GroupInfo {
        name: row.try_get(0).map_err(failed)?,
        interest: read_interest(row.try_get(1).map_err(failed)?)?,
        last_seen: Timestamp::from_micros(row.try_get(2).map_err(failed)?),
        lag: count(3)?,
        leased: count(4)?,
        dead_letters: count(5)?,
    })
}

/// Forgets a group; false if there is none of that name.
pub(super) async fn prune(lines: &Lines, name: &str) -> Result<bool> {
    let values: [Value<'_>; 1] = [(&name, Type::TEXT)];
    if check(name).is_err() {
        return Ok(false);
    }
    lines.slow_one("groups", "SELECT @.prune($1)", &values).await
}

/// Lets a group see again what it has settled since `start`; none if there is no such group.
pub(super) async fn replay(lines: &Lines, name: &str, start: Start) -> Result<Option<u64>> {
    if check(name).is_err() {
        return Ok(None);
    }
    lines.tick("groups").await?;
    let (what, at) = written(start);
    let values: [Value<'_>; 3] = [(&name, Type::TEXT), (&what, Type::INT4), (&at, Type::INT8)];
    let again: Option<i64> =
        lines.slow_one("groups", "SELECT @.replay($1, $2, $3)", &values).await?;
    Ok(again.map(i64::cast_unsigned))
}
