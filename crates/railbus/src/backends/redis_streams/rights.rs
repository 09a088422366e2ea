//! What a user must be allowed to do: asked before a group is opened, so that nothing is found missing
//! in the middle of settling, which no server takes back.

use super::{
    keys::Keys,
    script::{RIGHTS, list, text},
};
use crate::{
    backends::redis::link::Link,
    error::{Error, ErrorKind, Result},
};

/// Refuses a user who may not run all that the scripts of a group run.
///
/// # Errors
/// Returns a denied error that names the commands, and what to give the user; else what the server says.
pub(super) async fn check(link: &Link, keys: &Keys) -> Result<()> {
    let said = RIGHTS.run(link, keys, "subscribe", |_| {});
    let missing: Vec<_> = list(said.await?).into_iter().map(text).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let why = "the user may not run commands that a group needs";
    Err(Error::new(ErrorKind::Denied, "subscribe", why)
        .with("server", link.server())
        .with("commands", missing.join(", "))
        .hint(format!("ACL SETUSER {} +{}", link.server().user(), missing.join(" +"))))
}
