//! Files as a store: what is there is there whole, and what is locked is one's own.

use railbus::{Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Says what could not be done with which file.
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, operation, "the directory can't be used").with("path", path).because(error)
    }
}

/// Returns the microseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    micros(since)
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Writes a new file beside all others, under a name that nobody else has.
pub(crate) fn scratch(root: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    let path = root.join("new").join(name);
    fs::write(&path, bytes)?;
    Ok(path)
}

/// Puts a value into a file, in the place of what was there: whoever reads it sees one or the other.
pub(crate) fn put(root: &Path, path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| {
        Error::new(ErrorKind::Encode, "store", "a record can't be written").because(e)
    })?;
    let put = || fs::rename(scratch(root, &bytes)?, path);
    put().map_err(failed("store", path))
}

/// Reads a value; none if there is no such file.
pub(crate) fn get<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path)(e)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::new(ErrorKind::Corrupt, "read", "a record is damaged")
            .with("path", path.display())
            .because(e)
    })
}

/// Deletes a file; false if it was not there.
pub(crate) fn delete(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("delete", path)(e)),
    }
}

/// Returns the names in a folder; none if there is no such folder.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("list", folder)(e)),
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect::<io::Result<_>>().map_err(failed("list", folder))
}

/// Waits for a lock that ends with this process, however it ends; held until it is dropped.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let lock = || {
        let file = File::options().create(true).append(true).open(path)?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(failed("lock", path))
}

/// Returns a file's name for any text: no two texts have the same.
pub(crate) fn name_of(text: &str) -> String {
    let mut name = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.len() <= 100 {
        return name;
    }
    // FNV-1a from two offsets: texts that long that share both are not found by chance.
    let hash = |offset: u64| {
        text.bytes()
            .fold(offset, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    let end = (0..=60).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{}~{:016x}{:016x}", &name[..end], hash(0xcbf2_9ce4_8422_2325), hash(0x9e37_79b9))
}
