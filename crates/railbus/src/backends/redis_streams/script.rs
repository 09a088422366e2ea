//! What runs in the server, each script in one step that nothing comes between.

use super::keys::Keys;
use crate::{
    backends::redis::link::Link,
    error::{Error, ErrorKind, Result},
};
use redis::{Cmd, Script as Text, ServerErrorKind, Value};
use std::sync::LazyLock;

/// A script, which the server keeps under its hash once it has seen it.
pub(super) struct Script {
    text: String,
    hash: String,
}

macro_rules! scripts {
    ($($name:ident: $file:literal),* $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(include_str!("lua/common.lua"), include_str!($file))
        });)*
    };
}

scripts! {
    OPEN: "lua/open.lua",
    CLAIM: "lua/claim.lua",
    SETTLE: "lua/settle.lua",
    LEAVE: "lua/leave.lua",
    KNOWN: "lua/known.lua",
    REPLAY: "lua/replay.lua",
    PRUNE: "lua/prune.lua",
    LETTERS: "lua/letters.lua",
    LAG: "lua/lag.lua",
    KEPT: "lua/kept.lua",
    GONE: "lua/gone.lua",
    TRIM: "lua/trim.lua",
    PUBLISH: "lua/publish.lua",
    WITHDRAW: "lua/withdraw.lua",
    RUNS: "lua/runs.lua",
    RIGHTS: "lua/rights.lua",
    COMMONS: "lua/commons.lua",
}

impl Script {
    fn new(common: &str, own: &str) -> Self {
        let text = format!("{common}{own}");
        let hash = Text::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    /// Begins a call by the script's hash.
    pub(super) fn call(&self, keys: &Keys) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(2).arg(&keys.stream).arg(&keys.base);
        command
    }

    /// Runs it, handing it to the server first if that does not know it.
    ///
    /// # Errors
    /// Returns what the server said, or why there was no answer.
    pub(super) async fn run(
        &self,
        link: &Link,
        keys: &Keys,
        operation: &'static str,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value> {
        let (number, mut connection) = link.get().await?;
        let mut command = self.call(keys);
        arguments(&mut command);
        let said = match connection.send_packed_command(&command).await {
            Ok(Value::ServerError(e)) if e.kind() == Some(ServerErrorKind::NoScript) => {
                let mut whole = redis::cmd("EVAL");
                whole.arg(&self.text).arg(2).arg(&keys.stream).arg(&keys.base);
                arguments(&mut whole);
                connection.send_packed_command(&whole).await
            }
            said => said,
        };
        let said = said.and_then(Value::extract_error);
        said.map_err(|e| link.failed(operation, number, e))
    }
}

/// Returns the error for an answer that no script gives.
pub(super) fn odd(operation: &'static str) -> Error {
    Error::new(ErrorKind::Internal, operation, "the server's answer is not what the script gives")
}

/// Takes an answer apart.
pub(super) fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

/// Reads a text; what is none is empty.
pub(super) fn text(value: Value) -> String {
    String::from_utf8(bytes(value)).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into())
}

/// Reads bytes; what is none is empty.
pub(super) fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        Value::Int(number) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

/// Reads a number, also from a text.
pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// Reads a count; what is none is zero.
pub(super) fn count(value: &Value) -> u64 {
    number(value).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}
