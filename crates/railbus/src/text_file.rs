//! Files of text that a program is told of, and what is wrong with them.

use crate::error::{Error, ErrorKind, Result};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The largest file that is read, in bytes.
const MAX: u64 = 1024 * 1024;

/// Which files are read: what an operation calls them, and how one may be called.
pub(crate) struct Files {
    operation: &'static str,
    what: &'static str,
    example: &'static str,
    only_config: bool,
}

/// The files of apps.
#[cfg(feature = "app")]
pub(crate) const APPS: Files =
    Files { operation: "app", what: "an app file", example: "app.toml", only_config: false };

/// The files of flows: what can't be built is a config error, whatever is wrong.
pub(crate) const FLOWS: Files =
    Files { operation: "flow", what: "a flow's file", example: "fulfil.flow", only_config: true };

impl Files {
    /// Reads a file as a whole.
    ///
    /// # Errors
    /// Returns an error that names the file if it is missing, a folder, larger than 1 MiB or not
    /// UTF-8.
    pub(crate) fn read(&self, path: &Path) -> Result<String> {
        let Self { what, example, .. } = self;
        let unread = |error: io::Error| {
            let (kind, why) = match error.kind() {
                io::ErrorKind::NotFound => (ErrorKind::NotFound, "there is no such file"),
                io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "the file can't be read"),
                _ => (ErrorKind::Unavailable, "the file can't be read"),
            };
            let hint = format!("name {what} that is there and may be read, such as {example}");
            self.failed(kind, path, why).because(error).hint(hint)
        };
        let file = File::open(path).map_err(unread)?;
        if file.metadata().map_err(unread)?.is_dir() {
            let why = format!("this is a folder, not {what}");
            let hint = format!("name the file, such as {}", path.join(example).display());
            return Err(self.failed(ErrorKind::Config, path, why).hint(hint));
        }
        let mut bytes = Vec::new();
        file.take(MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
        if bytes.len() as u64 > MAX {
            let hint =
                format!("{what} says what runs; data belong elsewhere, such as into an input");
            let why = "the file is larger than 1 MiB";
            return Err(self.failed(ErrorKind::TooLarge, path, why).hint(hint));
        }
        String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            let hint = format!("{what} is text: save it as UTF-8, or name another file");
            let error = self.failed(ErrorKind::Decode, path, "the file is not UTF-8");
            error.with("line", line).hint(hint)
        })
    }

    fn failed(&self, kind: ErrorKind, path: &Path, why: impl Into<String>) -> Error {
        let kind = if self.only_config { ErrorKind::Config } else { kind };
        Error::new(kind, self.operation, why.into()).with("file", path.display())
    }
}
