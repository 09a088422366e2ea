//! Everything the program prints: data on stdout, all else on stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use anstream::{eprintln, stdout};
use comfy_table::{ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use owo_colors::OwoColorize;
use railbus::error::Error;
use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// Sends the log to stderr: warnings, or more if asked for. On a terminal the live line and the
/// summary tell of failures, so that only errors break through.
pub(crate) fn start_logging(verbose: u8) {
    let level = match verbose {
        0 if is_live() => "error",
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(anstream::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}

/// Prints a line of data; false if nobody reads it any more.
pub(crate) fn data(line: &str) -> bool {
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// Prints a line for the person at the terminal.
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}

/// Prints an error, and what to do about it.
pub(crate) fn error(message: &str, hint: Option<&str>) {
    eprintln!("{} {message}", "error:".red().bold());
    if let Some(hint) = hint {
        eprintln!("  {} {hint}", "hint:".cyan());
    }
}

/// Prints an error of Railbus.
pub(crate) fn failed(e: &Error) {
    error(&railbus::error::chain(e), e.advice());
}

/// Tells whether stderr is a terminal that can show a live line.
pub(crate) fn is_live() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows a path as seen from the working directory.
pub(crate) fn path(path: &str) -> &str {
    let folder = std::env::current_dir().unwrap_or_default();
    let inner = path.strip_prefix(&*folder.to_string_lossy());
    inner.and_then(|inner| inner.strip_prefix('/')).unwrap_or(path)
}

/// Lays rows out as a table.
#[allow(dead_code)]
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head);
    table.add_rows(rows);
    table.to_string()
}

/// Makes text from outside fit one line, without control characters.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= max {
        return words;
    }
    let head: String = words.chars().take(max.saturating_sub(1)).collect();
    format!("{head}…")
}
