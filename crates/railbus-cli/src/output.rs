//! Everything the program prints: data on stdout, all else on stderr.

use anstream::{eprintln, stdout};
use comfy_table::{ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use owo_colors::OwoColorize;
use railbus::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
};
use std::io::{self, IsTerminal, Write};
use terminal_size::terminal_size_of;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// How wide a terminal is taken to be that does not say.
const WIDTH: usize = 100;

/// Sends the log to stderr: warnings, or more if asked for. On a terminal the live line and the
/// summary tell of failures, so that only errors break through.
pub(crate) fn start_logging(verbose: u8) {
    let level = match verbose {
        0 if is_live() => LevelFilter::ERROR,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let wanted = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(level));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(anstream::stderr)
        .with_target(false)
        .with_ansi(colour);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

/// Writes an address as an argument of a command that is printed to be pasted: quoted where a shell needs
/// it, and without a password, which is not shown and is asked for or set elsewhere.
pub(crate) fn argument(address: &impl ToString) -> String {
    let address = address.to_string().replace(":***@", "@").replace("//***@", "//");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@=,+%".contains(c);
    match address.chars().all(is_plain) && !address.is_empty() {
        true => address,
        false => format!("'{}'", address.replace('\'', r"'\''")),
    }
}

/// Prints a line of data; false if it did not get out.
pub(crate) fn data(line: &str) -> bool {
    matches!(self::line(line), Ok(true))
}

/// Prints a line of data and flushes it; false if nobody reads any more.
///
/// An error is what must not pass in silence, such as a full disk.
pub(crate) fn line(line: &str) -> Result<bool> {
    let mut out = stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => {
            let kind = match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
                _ => ErrorKind::Unavailable,
            };
            Err(Error::new(kind, "output", "stdout can't be written").because(e))
        }
    }
}

/// Prints lines of data for as long as somebody reads them.
pub(crate) fn lines(lines: impl IntoIterator<Item = String>) -> Result<()> {
    for line in lines {
        if !self::line(&line)? {
            break;
        }
    }
    Ok(())
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
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows a path as seen from the working directory.
pub(crate) fn path(path: &str) -> &str {
    let folder = std::env::current_dir().unwrap_or_default();
    let inner = path.strip_prefix(&*folder.to_string_lossy());
    inner.and_then(|inner| inner.strip_prefix('/')).unwrap_or(path)
}

/// Returns the width of the terminal that stdout is; `None` if it is none.
pub(crate) fn width() -> Option<usize> {
    let width = || terminal_size_of(io::stdout()).map_or(WIDTH, |(width, _)| width.0.into());
    io::stdout().is_terminal().then(width)
}

/// Lays rows out as a table: with a border on a terminal, as plain columns elsewhere.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    match width() {
        Some(width) => boxed(head, rows, width),
        None => columns(head, rows),
    }
}

/// Lays rows out with a border, so wide at most; what is longer is broken.
pub(crate) fn boxed(head: &[&str], rows: Vec<Vec<String>>, width: usize) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header(head);
    table.add_rows(rows);
    table.to_string()
}

/// Lays rows out in columns with two spaces or more between them; what is empty is a `-`.
pub(crate) fn columns(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    for cell in rows.iter_mut().flatten().filter(|cell| cell.is_empty()) {
        cell.push('-');
    }
    let columns = rows.first().map_or(0, Vec::len);
    let longest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(longest).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Writes a time to the second: `2026-01-01 00:00:00Z`.
pub(crate) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.').and_then(|(second, _)| second.split_once('T')) {
        Some((day, time)) => format!("{day} {time}Z"),
        None => text,
    }
}

/// Makes text from outside safe to print: control characters are shown instead of obeyed.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

/// Makes JSON text safe to print, in one line: it stays the same document.
pub(crate) fn json_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // JSON has these between its values only, never within a text.
            c if c < ' ' => line.push(' '),
            c if c.is_control() => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line
}

/// Writes a count with its noun: `1 event`, `2 events`.
pub(crate) fn count(n: impl Into<u64>, noun: &str) -> String {
    match n.into() {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
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

#[cfg(test)]
mod tests {
    use super::{Timestamp, boxed, columns, time};

    fn rows() -> Vec<Vec<String>> {
        vec![vec!["1".into(), "".into(), "why".into()], vec!["22".into(), "b".into(), "".into()]]
    }

    #[test]
    fn what_is_printed_to_be_pasted_is_one_argument_without_a_password() {
        let pasted = [
            ("sqlite:shop.db", "sqlite:shop.db"),
            ("sqlite:sp ace/it's.db", r"'sqlite:sp ace/it'\''s.db'"),
            (
                "sqlite:a.db?busy_timeout=5s&retention=1h",
                "'sqlite:a.db?busy_timeout=5s&retention=1h'",
            ),
            ("postgres-queue://me:***@db:5432/shop", "postgres-queue://me@db:5432/shop"),
            ("redis-streams://***@cache", "redis-streams://cache"),
        ];
        for (shown, argument) in pasted {
            assert_eq!(super::argument(&shown), argument);
        }
    }

    #[test]
    fn columns_have_no_border_and_no_empty_cell() {
        let text = columns(&["id", "n", "reason"], rows());
        assert_eq!(text, "id  n  reason\n1   -  why\n22  b  -");
    }

    #[test]
    fn a_table_is_as_wide_as_the_terminal_at_most() {
        let mut rows = rows();
        rows[0][2] = "because of something ".repeat(10);
        for width in [30, 80, 120] {
            let table = boxed(&["id", "n", "reason"], rows.clone(), width);
            assert!(table.lines().all(|line| line.chars().count() <= width), "{width}\n{table}");
        }
    }

    #[test]
    fn a_time_is_short() {
        assert_eq!(time(Timestamp::from_micros(1_500_000)), "1970-01-01 00:00:01Z");
    }
}
