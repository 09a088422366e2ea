//! Cron expressions in a time zone.

use crate::{clock::Timestamp, error::nearest};
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use std::{ops::Range, sync::LazyLock};

/// The world's time zones as they are built in: those of the machine may differ from the next one's.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The longest text of an expression in bytes.
const TEXT_MAX: usize = 256;

/// The fields of an expression, the first of which may be left out, and what each may say.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, L for the last, 15W for the nearest weekday"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of the week", "0 to 7 or SUN to SAT, FRI#2 for the second Friday, FRI#L for the last"),
];

/// Names that stand for an expression.
const NAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

/// Where the search for a first tick starts: the year 2000 and those after it have all there is.
const ORIGIN: i64 = 946_684_800_000_000;

/// A cron expression and the time zone that its fields are told in.
#[derive(Clone, Debug)]
pub(crate) struct Cron {
    pub(super) text: String,
    pattern: croner::Cron,
    // Whether it follows the clock when that is changed; else its times are fixed.
    follows: bool,
    pub(super) zone: TimeZone,
    pub(super) zone_name: String,
}

/// What is wrong with an expression or a zone, and where in its text.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) part: Range<usize>,
    pub(crate) why: String,
    pub(crate) hint: String,
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.zone_name) == (&other.text, &other.zone_name)
    }
}

impl Cron {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let whole = 0..text.len();
        let wrong = |part, why: String, hint: String| Wrong { part, why, hint };
        let fields = fields(text);
        if text.len() > TEXT_MAX {
            let why = format!("a cron expression has at most {TEXT_MAX} bytes");
            return Err(wrong(whole, why, "split it into several schedules".into()));
        }
        if text.trim_start().starts_with('@') {
            let name = text.trim().to_lowercase();
            if !NAMES.contains(&name.as_str()) {
                let known = NAMES.join(", ");
                let near = nearest(&name, NAMES).map(|near| format!("did you mean `{near}`? "));
                let why = format!("`{}` is not a name of a schedule", text.trim().escape_debug());
                return Err(wrong(
                    whole,
                    why,
                    format!("{}known: {known}", near.unwrap_or_default()),
                ));
            }
        } else if !matches!(fields.len(), 5 | 6) {
            let why =
                format!("a cron expression has 5 fields, or 6 with seconds, not {}", fields.len());
            let hint = "write minute, hour, day of the month, month and day of the week, such as \
                        \"0 2 * * *\"";
            return Err(wrong(whole, why, hint.into()));
        } else {
            check_fields(text, &fields)?;
        }
        let pattern = parse(text)
            .map_err(|why| wrong(whole.clone(), why, "write such as \"0 2 * * *\"".into()))?;
        let (zone, zone_name) = (TimeZone::UTC, "UTC".into());
        let times = &fields[..fields.len().saturating_sub(3)];
        let follows = times.iter().any(|field| text[field.clone()].contains('*'))
            || text.trim().eq_ignore_ascii_case("@hourly");
        let cron = Self { text: text.trim().into(), pattern, follows, zone, zone_name };
        if cron.after(Timestamp::from_micros(ORIGIN)).is_none() {
            let why = format!("`{}` never comes", text.escape_debug());
            return Err(wrong(whole, why, "no month that it names has such a day".into()));
        }
        Ok(cron)
    }

    pub(crate) fn in_zone(mut self, name: &str) -> Result<Self, Wrong> {
        let Ok(zone) = ZONES.get(name) else {
            let known: Vec<String> = ZONES.available().map(|zone| zone.to_string()).collect();
            return Err(Wrong {
                part: 0..name.len(),
                why: format!("`{}` is not a time zone", name.escape_debug()),
                hint: match near_zone(name, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write its name in the IANA database, such as Europe/Berlin".into(),
                },
            });
        };
        self.zone_name = zone.iana_name().unwrap_or(name).into();
        self.zone = zone;
        Ok(self)
    }

    /// Returns the first time after `time`.
    pub(super) fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let from = jiff::Timestamp::from_microsecond(time.as_micros()).ok()?;
        let next = match self.follows {
            true => self.following_after(from),
            false => self.fixed_after(from),
        };
        next.map(|next| Timestamp::from_micros(next.as_microsecond()))
    }

    /// Finds the next in what clocks show, and what it is in truth. Croner's own search takes lists
    /// and ranges for what follows the clock, and would pass over those in a gap.
    fn fixed_after(&self, from: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut shown = from.to_zoned(self.zone.clone()).datetime();
        loop {
            shown = self.pattern.find_next_occurrence(&shown, false).ok()?;
            let meant = self.zone.to_ambiguous_zoned(shown);
            let gap = matches!(meant.offset(), AmbiguousOffset::Gap { .. });
            let meant = meant.earlier().ok()?.timestamp();
            let meant = match gap {
                true => self.zone.following(meant).next()?.timestamp(),
                false => meant,
            };
            // In the second pass of an hour that comes twice, the times ahead have been.
            if meant > from {
                return Some(meant);
            }
        }
    }

    fn following_after(&self, from: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let start =
            jiff::Timestamp::from_second(from.as_microsecond().div_euclid(1_000_000)).ok()?;
        let next = self.pattern.find_next_occurrence(&start.to_zoned(self.zone.clone()), false);
        next.ok().map(|next| next.timestamp()).filter(|next| *next > from)
    }
}

/// Returns where the fields of a text stand.
fn fields(text: &str) -> Vec<Range<usize>> {
    let start = |part: &str| part.as_ptr().addr() - text.as_ptr().addr();
    text.split_whitespace().map(|part| start(part)..start(part) + part.len()).collect()
}

/// Finds the field that is wrong, each beside others that say nothing.
fn check_fields(text: &str, fields: &[Range<usize>]) -> Result<(), Wrong> {
    for (field, (name, may)) in fields.iter().zip(&FIELDS[FIELDS.len() - fields.len()..]) {
        let part = &text[field.clone()];
        let before = "* ".repeat(FIELDS.iter().take_while(|(known, _)| known != name).count());
        let after = " *".repeat(FIELDS.iter().skip_while(|(known, _)| known != name).count() - 1);
        // The parser takes the names of days and months anywhere, and this one in every field.
        if part.contains('@') || parse(&format!("{before}{part}{after}")).is_err() {
            return Err(Wrong {
                part: field.clone(),
                why: format!("`{}` can't be the {name}", part.escape_debug()),
                hint: format!(
                    "the {name} is * or {may}; lists 1,2, ranges 1-5 and steps */5 are fine"
                ),
            });
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<croner::Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(text).map_err(|e| e.to_string())
}

/// Returns the zone meant: the one of that city, or the nearest name.
fn near_zone<'k>(name: &str, known: &'k [String]) -> Option<&'k str> {
    let city =
        |zone: &str| zone.rsplit('/').next().unwrap_or(zone).to_lowercase().replace(' ', "_");
    let same = known.iter().find(|zone| zone.contains('/') && city(zone) == city(name));
    same.map(String::as_str).or_else(|| nearest(name, known.iter().map(String::as_str)))
}
