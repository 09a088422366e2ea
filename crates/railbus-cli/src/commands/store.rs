//! Opening the bus that a URL names, and what must not happen by doing so.

use crate::output;
use railbus::{
    backend::{Broadcast, Capability},
    backends::{self, Row, TABLE},
    bus::Bus,
    error::{Error, ErrorKind, Result},
    options::Options,
};
use std::{env, fs, path::Path};

/// Reads a URL that was given as an argument, where everybody sees it: one without a password takes that of
/// the environment, be it `RAILBUS_URL`'s, if that names the same bus, or `RAILBUS_BUS__PASSWORD`.
pub(super) fn options(url: &str) -> Result<Options> {
    const PASSWORD: &str = "password";
    let mut options = Options::parse(url)?;
    // What is wrong with it is told where it is opened.
    let known = backends::find(&options).ok();
    let is_asked = known.is_some_and(|row| row.settings.iter().any(|set| set.key == PASSWORD));
    if !is_asked || options.text(PASSWORD).is_some() {
        return Ok(options);
    }
    let named = env::var("RAILBUS_URL").ok().and_then(|url| Options::parse(&url).ok());
    if let Some(named) = named
        && output::argument(&named) == output::argument(&options)
    {
        options = named;
    }
    if let Ok(password) = env::var("RAILBUS_BUS__PASSWORD") {
        options.set(PASSWORD, password);
    }
    Ok(options)
}

/// A URL that names a bus other processes are on.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) capability: &'static Capability,
}

impl Shared {
    /// Reads a URL, and refuses a bus that ends with this process, or of which only groups reach
    /// further where none is named.
    pub(super) fn read(url: &str, operation: &'static str, grouped: bool) -> Result<Self> {
        let options = options(url)?;
        let row = backends::find(&options)?;
        (row.check)(&options)?;
        let reaches = |c: &Capability| c.broadcast != Broadcast::Inline || (grouped && c.durable);
        if !reaches(row.capability) {
            let why = format!("{}: reaches nobody outside this process", row.scheme);
            let able = TABLE.iter().filter(|row| reaches(row.capability));
            let able: Vec<_> = able.map(|row| row.example).collect();
            return Err(Error::new(ErrorKind::Unsupported, operation, why).hint(format!(
                "name a bus that other programs open as well: {}",
                able.join(", ")
            )));
        }
        Ok(Self { options, capability: row.capability })
    }

    /// Opens the bus, and says so if that is how its store begins.
    pub(super) async fn open(&self) -> Result<Bus> {
        let begins = file(&self.options).is_some_and(|path| !path.exists());
        let bus = Bus::open(self.options.clone()).await?;
        if begins {
            output::note(&format!("{} is new: an empty store was created", self.options));
        }
        Ok(bus)
    }
}

/// How long events and runs are kept by who only looks: whoever wrote them may keep them longer than the
/// default, and has not told us.
const KEPT: &str = "876000h";

/// Opens a bus to look at what it keeps; nothing is created by looking, and nothing goes.
pub(super) async fn existing(options: &Options, operation: &'static str) -> Result<Bus> {
    let row = backends::find(options)?;
    (row.check)(options)?;
    if !row.capability.durable {
        let why = format!("{}: what it keeps ends with the process that keeps it", row.scheme);
        let able = TABLE.iter().filter(|row| row.capability.durable).map(|row| row.example);
        let hint = format!("name a store: {}", able.collect::<Vec<_>>().join(", "));
        return Err(Error::new(ErrorKind::Unsupported, operation, why).hint(hint));
    }
    if let Some(path) = file(options) {
        let missing = |why: &'static str| {
            Error::new(ErrorKind::NotFound, operation, why).with("file", path.display()).hint(
                "check the path, which starts at the working directory; \
                 a store begins with `railbus run` or `railbus publish`",
            )
        };
        match fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing("there is no such store"));
            }
            Ok(found) if found.is_file() && found.len() == 0 => {
                return Err(missing("the file is empty: there is no store in it"));
            }
            // Whatever else is wrong with it, opening says better.
            _ => {}
        }
    }
    Bus::open(keeping(options, row)).await
}

fn keeping(options: &Options, row: &Row) -> Options {
    let mut options = options.clone();
    for key in ["retention", "journal_retention"] {
        if row.settings.iter().any(|setting| setting.key == key) {
            options.set(key, KEPT);
        }
    }
    options
}

/// Returns the file that a store is kept in, if it is one.
fn file(options: &Options) -> Option<&Path> {
    let path = Some(options.address()).filter(|path| !path.is_empty())?;
    (options.backend() == "sqlite").then(|| Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Options, Result, backends, keeping};

    #[test]
    fn looking_lets_nothing_go_that_others_keep_longer() -> Result<()> {
        for url in ["sqlite:a.db", "sqlite:a.db?retention=1s", "memory:"] {
            let options = Options::parse(url)?;
            let row = backends::find(&options)?;
            let opened = keeping(&options, row);
            (row.check)(&opened)?;
            let kept = (row.scheme == "sqlite").then_some(KEPT);
            assert_eq!(opened.text("retention"), kept, "{url}");
            assert_eq!(opened.text("journal_retention"), kept, "{url}");
        }
        Ok(())
    }
}
