//! Dead letters as they are shown: a row, a page, a document.

use crate::output;
use railbus::{backend::Letter, delivery::Try, error::Result, event::Event};
use serde_json::{Value, json};

/// The head of the table of [`row`]s.
pub(super) const HEAD: [&str; 7] =
    ["id", "when", "type", "topic", "group / subscription", "tries", "reason"];

/// The longest reason and the longest name shown in a table.
const REASON_MAX: usize = 80;
const NAME_MAX: usize = 40;

/// Writes a letter as a row of a table.
pub(super) fn row(letter: &Letter) -> Vec<String> {
    vec![
        output::plain(letter.id.as_str()),
        letter.at.to_string(),
        output::one_line(&letter.event_type, NAME_MAX),
        output::one_line(&letter.topic, NAME_MAX),
        output::one_line(&place(letter), 2 * NAME_MAX),
        letter.attempts.to_string(),
        output::one_line(&letter.reason, REASON_MAX),
    ]
}

fn place(letter: &Letter) -> String {
    match &letter.group {
        Some(group) => format!("{group} / {}", letter.subscription),
        None => format!("input {}", letter.subscription),
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
fn indented(text: &str, by: usize) -> String {
    let lines: Vec<_> = text.trim_end().lines().map(output::plain).collect();
    lines.join(&format!("\n{:by$}", ""))
}

/// Writes JSON for people; what is nested too deeply for that stays as it is.
fn pretty(text: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(text) else {
        return output::json_line(&String::from_utf8_lossy(text));
    };
    let lines = format!("{value:#}");
    let lines: Vec<_> = lines.lines().map(output::json_line).collect();
    lines.join("\n  ")
}
