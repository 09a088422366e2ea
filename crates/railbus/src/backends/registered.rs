//! Backends that a program brings along.

use super::{Row, TABLE};
use crate::error::{Error, ErrorKind, Result};
use std::sync::{PoisonError, RwLock};

/// The rows that were registered, in the order they came.
static ROWS: RwLock<Vec<&'static Row>> = RwLock::new(Vec::new());

/// Adds a backend of the program's own to those that URLs can name, in this process; adding the same
/// row again does nothing.
///
/// # Examples
/// ```
/// use railbus::{
///     Bus, Options,
///     backend::{Backend, Capability},
///     backends::{self, Opening, Row, checkup::Checkup, memory::Memory},
/// };
/// use std::sync::Arc;
///
/// // A crate of one's own has a backend in the place of this one.
/// static ROW: Row = Row {
///     scheme: "mine",
///     example: "mine:PLACE",
///     capability: &backends::memory::CAPABILITY,
///     settings: &[],
///     check: |_| Ok(()),
///     look: |_| Checkup::default(),
///     open: |_| Box::pin(async { Ok(Arc::new(Memory::default()) as Arc<dyn Backend>) }),
/// };
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// backends::register(&ROW)?;
/// let bus = Bus::open("mine:here").await?;
/// assert!(bus.ping().await.is_ok() && backends::all().any(|row| row.scheme == "mine"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// Returns a config error if its scheme is another backend's, or is none: lower-case letters, digits
/// and `-`, a letter first.
pub fn register(row: &'static Row) -> Result<()> {
    let config = |why: String| Error::new(ErrorKind::Config, "register", why);
    let scheme = row.scheme;
    let first = scheme.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(first && scheme.bytes().all(plain)) {
        return Err(config(format!("`{scheme}` is not a scheme"))
            .hint("write lower-case letters, digits and -, such as directory"));
    }
    let mut rows = ROWS.write().unwrap_or_else(PoisonError::into_inner);
    if rows.iter().any(|known| std::ptr::eq(*known, row)) {
        return Ok(());
    }
    let taken = TABLE.iter().chain(rows.iter().copied()).any(|known| known.scheme == scheme);
    if taken || super::NAMED.contains(&scheme) {
        return Err(config(format!("there is a backend `{scheme}` already"))
            .hint("give it a scheme of its own"));
    }
    rows.push(row);
    Ok(())
}

/// Returns the backends of this build, and then those that were registered.
///
/// # Examples
/// ```
/// use railbus::backends;
///
/// assert!(backends::all().any(|row| row.scheme == "memory"));
/// ```
pub fn all() -> impl Iterator<Item = &'static Row> + Clone {
    let registered = ROWS.read().unwrap_or_else(PoisonError::into_inner).clone();
    TABLE.iter().chain(registered)
}

#[cfg(test)]
mod tests {
    use super::*;

    static TAKEN: Row = Row { scheme: "redis", ..template() };
    static ODD: Row = Row { scheme: "No Scheme", ..template() };
    static OWN: Row = Row { scheme: "own-1", ..template() };
    static OTHER: Row = Row { scheme: "own-1", ..template() };

    const fn template() -> Row {
        Row {
            scheme: "",
            example: "",
            capability: &crate::backends::memory::CAPABILITY,
            settings: &[],
            check: |_| Ok(()),
            look: |_| super::super::Checkup::default(),
            open: |options| Box::pin(crate::backends::memory::open(options)),
        }
    }

    #[test]
    fn a_scheme_is_one_backend_s_alone() {
        for (row, why) in [(&TAKEN, "is a backend `redis` already"), (&ODD, "is not a scheme")] {
            let error = register(row).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(why), "{error}");
        }
        for _ in 0..2 {
            register(&OWN).unwrap();
        }
        assert!(register(&OTHER).is_err());
        assert_eq!(all().filter(|row| row.scheme == "own-1").count(), 1);
    }
}
