//! The backends: one row of [`TABLE`] each.

pub mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use crate::{
    backend::{Backend, Capability},
    error::{Error, ErrorKind, Result, nearest},
    options::{Options, Setting},
};
use std::{future::Future, pin::Pin, sync::Arc};

/// What opening a backend gives.
pub type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn Backend>>> + Send>>;

/// A backend as `open`, `backends` and the conformance suite see it.
#[derive(Debug)]
pub struct Row {
    /// Its name: the URL's scheme.
    pub scheme: &'static str,
    /// What an address looks like.
    pub example: &'static str,
    /// What it guarantees.
    pub capability: &'static Capability,
    /// What can be set.
    pub settings: &'static [Setting],
    /// Checks settings without opening anything.
    pub check: fn(&Options) -> Result<()>,
    /// Opens it.
    pub open: fn(Options) -> Opening,
}

/// All backends of this build.
pub const TABLE: &[Row] = &[
    Row {
        scheme: "memory",
        example: "memory:",
        capability: &memory::CAPABILITY,
        settings: memory::SETTINGS,
        check: memory::check,
        open: |options| Box::pin(memory::open(options)),
    },
    #[cfg(feature = "sqlite")]
    Row {
        scheme: "sqlite",
        example: "sqlite:PATH",
        capability: &sqlite::CAPABILITY,
        settings: sqlite::SETTINGS,
        check: sqlite::check,
        open: |options| Box::pin(sqlite::open(options)),
    },
];

/// Returns the backend that `options` name.
///
/// # Errors
/// Returns a config error that lists the backends of this build if there is none of that name.
pub fn find(options: &Options) -> Result<&'static Row> {
    let names = || TABLE.iter().map(|row| row.scheme);
    TABLE.iter().find(|row| row.scheme == options.backend()).ok_or_else(|| {
        let known = names().collect::<Vec<_>>().join(", ");
        let hint = match nearest(options.backend(), names()) {
            Some(near) => format!("did you mean `{near}`? This build has: {known}"),
            None => format!("this build has: {known}"),
        };
        let why = format!("there is no backend `{}`", options.backend());
        Error::new(ErrorKind::Config, "open", why).hint(hint)
    })
}

/// Opens the backend that `options` name.
///
/// # Errors
/// As [`find`], else what the backend says.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    (find(&options)?.open)(options).await
}
