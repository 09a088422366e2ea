//! What `railbus run` says at its end: the counts, what failed, and what to do next.

use super::{environment::names_the_bus, letters};
use crate::output;
use railbus::{
    app::{AppSpec, InputSpec, SubscriptionSpec, Summary},
    backend::{Letter, LetterFilter, Tally},
    bus::Bus,
    clock::Timestamp,
};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// How many dead letters the summary shows.
const LETTERS_SHOWN: usize = 10;

/// What the end of a run is told from: the app, and how things were before it.
pub(super) struct Report<'a> {
    app: PathBuf,
    spec: &'a AppSpec,
    began: Timestamp,
    had_store: bool,
}

impl<'a> Report<'a> {
    /// Notes how things are before the app opens.
    pub(super) fn begin(app: &Path, spec: &'a AppSpec) -> Self {
        let had_store = spec.bus.backend() == "sqlite" && Path::new(spec.bus.address()).exists();
        Self { app: app.into(), spec, began: Timestamp::now(), had_store }
    }

    /// Returns the dead letters of this run, oldest first: one more than are shown, at most.
    pub(super) async fn letters(&self, bus: &Bus, summary: &Summary) -> Vec<Letter> {
        let Ok(keeper) = bus.keeper() else { return Vec::new() };
        if summary.events.dead_lettered == 0 {
            return Vec::new();
        }
        let filter = LetterFilter {
            since: Some(self.began),
            limit: Some(LETTERS_SHOWN as u64 + 1),
            ..LetterFilter::default()
        };
        let mine = |letter: &Letter| match &letter.group {
            None => true,
            Some(group) => {
                self.spec.subscriptions.iter().any(|on| on.group.as_ref() == Some(group))
            }
        };
        let letters = keeper.letters(&filter).await.unwrap_or_default();
        letters.into_iter().filter(mine).collect()
    }

    /// Says how the run ended.
    pub(super) fn say(&self, summary: &Summary, letters: &[Letter]) {
        if summary.is_empty() {
            self.say_nothing_new();
            return;
        }
        output::note(&counts(summary));
        if let Some(Tally { succeeded, failed, .. }) = summary.broadcasts {
            output::note(&format!(
                "  beside the groups, broadcasts: {succeeded} handled · {failed} failed"
            ));
        }
        let shown = &letters[..letters.len().min(LETTERS_SHOWN)];
        for letter in shown {
            output::note(&format!("  dead letter {}: {}", letter.id, describe(letter)));
        }
        // An event has a letter for each subscription it failed in.
        let events: HashSet<_> = shown.iter().map(|letter| &letter.event_id).collect();
        match summary.events.dead_lettered.saturating_sub(events.len() as u64) {
            0 if letters.len() > shown.len() => output::note("  and more of these events"),
            0 => {}
            more => output::note(&format!("  and {more} more")),
        }
        self.say_hints(summary);
        self.say_next(shown);
    }

    fn say_next(&self, shown: &[Letter]) {
        let Some(first) = shown.first() else { return };
        let (program, url) = (program(), output::argument(&url(self.spec)));
        let app = output::argument(&self.app.display());
        output::note("next:");
        output::note(&format!("  {program} dlq show {url} {}", first.id));
        // A line that never became an event has nowhere to be handed back to.
        if shown.iter().any(|letter| letter.group.is_some()) {
            // What never ends can't be waited for.
            let is_endless = self.spec.inputs.iter().any(InputSpec::is_endless);
            let until = if is_endless { "" } else { " --until-idle" };
            let hides = self::url(self.spec).contains("***");
            let bus = match names_the_bus() {
                // The file names another bus, or none.
                true if !hides => format!("RAILBUS_URL={url} "),
                _ => String::new(),
            };
            let again = format!("{bus}{program} run {app}{until}");
            output::note(&format!("  {program} dlq redrive {url} && {again}"));
            if names_the_bus() && hides {
                output::note(
                    "  (with RAILBUS_URL as it was for this run: its password is not shown)",
                );
            }
        }
    }

    fn say_hints(&self, summary: &Summary) {
        let events = &summary.events;
        let ons = &self.spec.subscriptions;
        let lost = summary.broadcasts.map_or(0, |broadcasts| broadcasts.failed);
        if events.failed + lost > 0 && ons.iter().any(|on| on.group.is_none()) {
            output::note(
                "an [[on]] without `group` keeps nothing: what failed is gone; \
                 add a group to get retries and dead letters",
            );
        }
        let wanted = events.succeeded + events.failed + events.dead_lettered > 0;
        if wanted || events.unmatched == 0 {
            return;
        }
        let patterns: Vec<_> = ons.iter().map(pattern).collect();
        let patterns =
            if patterns.is_empty() { "there is none".into() } else { patterns.join("; ") };
        output::note(&format!("no [[on]] matched: {patterns}"));
        if let Some(group) = ons.iter().find_map(|on| on.group.as_deref()) {
            let (program, url) = (program(), url(self.spec));
            output::note(&format!(
                "once that is mended, stored events are offered again to a group with a new name, \
                 or after: {program} groups prune {url} {}",
                output::plain(group)
            ));
            output::note(
                "  (prune also forgets the group's dead letters and progress: \
                 events it has handled come again)",
            );
        }
    }

    fn say_nothing_new(&self) {
        let inputs = &self.spec.inputs;
        let file = |input: &InputSpec| matches!(input, InputSpec::Ndjson(i) if i.path.is_some());
        if inputs.is_empty() {
            output::note("nothing is new: no event came while it ran");
        } else if self.had_store && inputs.iter().any(file) {
            output::note("nothing is new: the inputs were read to their end by an earlier run");
            let file = output::path(self.spec.bus.address());
            output::note(&format!(
                "to start over, delete the database: rm {file} {file}-wal {file}-shm"
            ));
        } else {
            output::note("nothing came in");
        }
    }
}

/// Writes which events a subscription wants.
fn pattern(on: &SubscriptionSpec) -> String {
    let pattern = |key: &str, pattern: &Option<String>| {
        pattern.as_ref().map(|p| format!("{key} = \"{}\"", output::plain(p)))
    };
    let values = on.payload.iter().map(|(path, value)| {
        format!("{} = {}", output::plain(path), output::json_line(&value.to_string()))
    });
    let values: Vec<_> = values.collect();
    let values = (!values.is_empty()).then(|| format!("where {}", values.join(", ")));
    let parts = [pattern("type", &on.event_type), pattern("topic", &on.topic), values];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    format!("`{}` wants {}", output::plain(&on.name), parts.join(" and "))
}

/// Says in one line what failed, what it was about and why.
fn describe(letter: &Letter) -> String {
    let tries = match letter.attempts {
        0 => "never tried".into(),
        1 => "1 try".into(),
        n => format!("{n} tries"),
    };
    let reason = output::one_line(&letters::reason(letter), 150);
    // A line that never became an event tells of itself in its reason.
    if letter.group.is_none() {
        return reason;
    }
    let payload = letter.event.as_ref().and_then(|e| e.raw_payload().text().ok());
    let about = output::one_line(&String::from_utf8_lossy(payload.map_or(b"", |p| p)), 40);
    let (kind, name) = (&letter.event_type, &letter.subscription);
    format!("{kind} {about}\n    {name}, {tries}: {reason}")
}

/// Returns the bus as it is typed from here.
pub(super) fn url(spec: &AppSpec) -> String {
    spec.bus.clone().with_address(output::path(spec.bus.address())).to_string()
}

/// Returns how the person at the terminal calls this program.
pub(super) fn program() -> String {
    let name = std::env::args().next().unwrap_or_default();
    if name.contains("target/") { name } else { "railbus".into() }
}

fn counts(summary: &Summary) -> String {
    let Tally { published, carried, succeeded, retried, failed, dead_lettered, unmatched, .. } =
        &summary.events;
    let mut parts = vec![format!("{} published", output::count(*published, "event"))];
    if *carried > 0 {
        parts.push(format!("{carried} carried over"));
    }
    parts.push(format!("{succeeded} succeeded"));
    for (count, what) in [
        (*retried, "retried"),
        (*failed, "failed"),
        (*dead_lettered, "in the dead letters"),
        (*unmatched, "wanted by nobody"),
        (summary.left(), "left for the next run"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{} · {:.1} s", parts.join(" · "), summary.elapsed)
}
