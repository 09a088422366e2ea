//! Dead letters as they are shown: a row, a page, a document.

use crate::output;
use railbus::{backend::Letter, delivery::Try, error::Result, event::Event};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The heads of the table, on a terminal and elsewhere: a terminal is too narrow for topics.
const HEAD: [&str; 6] = ["id", "when", "type", "group / subscription", "tries", "reason"];
const HEAD_WIDE: [&str; 7] =
    ["id", "when", "type", "topic", "group / subscription", "tries", "reason"];

/// The longest name shown in a table.
const NAME_MAX: usize = 40;

/// The longest reason shown where lines have no end, and the shortest on a terminal.
const REASON_MAX: usize = 100;
const REASON_MIN: usize = 32;

/// Lays letters out as a table, as wide as the terminal if it is for one.
pub(super) fn table(letters: &[Letter]) -> String {
    let Some(width) = output::width() else {
        let rows = letters.iter().map(|letter| row(letter, true, REASON_MAX));
        return output::columns(&HEAD_WIDE, rows.collect());
    };
    let mut rows: Vec<_> = letters.iter().map(|letter| row(letter, false, usize::MAX)).collect();
    let longest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(HEAD.get(column).map(|head| head.len())).max().unwrap_or_default()
    };
    // A column has a space at either side and one to the next, the table a border.
    let others: usize = (0..HEAD.len() - 1).map(longest).sum::<usize>() + 3 * HEAD.len() + 1;
    let left = width.saturating_sub(others).max(REASON_MIN);
    for reason in rows.iter_mut().filter_map(|row| row.last_mut()) {
        *reason = output::one_line(reason, left);
    }
    output::boxed(&HEAD, rows, width)
}

fn row(letter: &Letter, with_topic: bool, reason_max: usize) -> Vec<String> {
    let mut row = vec![
        output::plain(letter.id.as_str()),
        output::time(letter.at),
        output::one_line(&letter.event_type, NAME_MAX),
        output::one_line(&place(letter), 2 * NAME_MAX),
        letter.attempts.to_string(),
        output::one_line(&reason(letter), reason_max),
    ];
    if with_topic {
        row.insert(3, output::one_line(&letter.topic, NAME_MAX));
    }
    row
}

/// Returns why a letter is one; a line of an input names its file without the folders.
pub(super) fn reason(letter: &Letter) -> Cow<'_, str> {
    let line = letter.reason.split_once(", line at byte ");
    let line = line.filter(|(path, _)| letter.group.is_none() && path.contains('/'));
    match line {
        Some((path, rest)) => format!("{}, line at byte {rest}", file_name(path)).into(),
        None => letter.reason.as_str().into(),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}

fn place(letter: &Letter) -> String {
    match &letter.group {
        Some(group) => format!("{group} / {}", letter.subscription),
        None => format!("input {}", file_name(&letter.subscription)),
    }
}

/// Writes a letter as a document, without its event.
pub(super) fn document(letter: &Letter) -> Value {
    json!({
        "id": letter.id.as_str(), "at": letter.at.to_string(), "event_id": letter.event_id,
        "type": letter.event_type, "topic": letter.topic, "group": letter.group,
        "subscription": letter.subscription, "attempts": letter.attempts, "reason": letter.reason,
    })
}

/// Writes all that is known of a letter as one line of JSON; its event is null if it was none.
pub(super) fn whole(letter: &Letter) -> Result<String> {
    let mut known = document(letter);
    known["history"] = json!(letter.history);
    let known = known.to_string();
    let event = letter.event.as_ref().map(Event::to_json).transpose()?;
    let event = event.as_deref().unwrap_or("null");
    // Joined as text: a payload may be nested deeper than a value can be.
    let head = known.strip_suffix('}').unwrap_or(&known);
    Ok(format!("{head},\"event\":{event}}}"))
}

/// Writes all that is known of a letter as a page.
pub(super) fn page(letter: &Letter) -> Result<String> {
    let mut page = vec![
        format!("dead letter   {}", output::plain(letter.id.as_str())),
        format!("since         {}", letter.at),
        format!("event         {}", output::plain(&letter.event_id)),
        format!("type          {}", output::plain(&letter.event_type)),
        format!("topic         {}", output::plain(&letter.topic)),
    ];
    match &letter.group {
        Some(group) => {
            page.push(format!("group         {}", output::plain(group)));
            page.push(format!("subscription  {}", output::plain(&letter.subscription)));
        }
        None => page.push(format!("input         {}", output::plain(&letter.subscription))),
    }
    page.push(format!("tries         {}", letter.attempts));
    page.push(format!("reason        {}", indented(&letter.reason, 14)));
    if let Some(event) = &letter.event {
        if !event.source().is_empty() {
            page.push(format!("source        {}", output::plain(event.source())));
        }
        page.push(format!("happened      {}", event.timestamp()));
        page.push(format!("correlation   {}", output::plain(event.correlation_id())));
        if let Some(cause) = event.causation_id() {
            page.push(format!("caused by     {}", output::plain(cause)));
        }
        for (key, value) in event.metadata() {
            page.push(format!("metadata      {} = {}", output::plain(key), output::plain(value)));
        }
        page.push("payload".into());
        page.push(format!("  {}", pretty(event.raw_payload().text()?)));
    } else {
        page.push("payload       none: what was stored is not an event".into());
    }
    if !letter.history.is_empty() {
        page.push("history".into());
    }
    for tried in &letter.history {
        let Try { attempt, at, subscription, reason } = tried;
        let by = if subscription.is_empty() {
            ""
        } else {
            &format!("{}: ", output::plain(subscription))
        };
        page.push(format!("  try {attempt} at {at}  {by}{}", indented(reason, 6)));
    }
    Ok(page.join("\n"))
}

/// Writes text of several lines, the later ones under the first.
pub(super) fn indented(text: &str, by: usize) -> String {
    let lines: Vec<_> = text.trim_end().lines().map(output::plain).collect();
    lines.join(&format!("\n{:by$}", ""))
}

/// Writes JSON for people; what is nested too deeply for that stays as it is.
pub(super) fn pretty(text: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(text) else {
        return output::json_line(&String::from_utf8_lossy(text));
    };
    let lines = format!("{value:#}");
    let lines: Vec<_> = lines.lines().map(output::json_line).collect();
    lines.join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn an_input_is_named_by_its_file() {
        for (path, name) in [("in", "in"), ("a/b/in.ndjson", "in.ndjson"), ("a/", "a/"), ("", "")] {
            assert_eq!(file_name(path), name);
        }
    }
}
