//! One process at a time does what is done once for all.

use crate::error::{Doing, Result};
use std::{
    fs::{self, File, OpenOptions},
    path::Path,
};

/// A lock on a file, held until it is dropped or its process ends.
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Waits until nobody else holds the lock of that file, which stays behind.
    pub(crate) fn on(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).doing(|| format!("create {}", folder.display()))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.doing(|| format!("open {}", path.display()))?;
        file.lock().doing(|| format!("lock {}", path.display()))?;
        Ok(Self(file))
    }
}
