//! Schedules as a pure function: which ticks there are, in every kind of night.
#![cfg(feature = "cron")]
#![allow(clippy::unwrap_used)]

use railbus::{
    clock::Timestamp,
    error::{Error, ErrorKind},
    schedule::{Missed, Schedule},
};
use std::time::Duration;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Returns the ticks after `from` and not after `to`, without the decimals.
fn ticks(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
    let to = time(to);
    let ticks = std::iter::successors(schedule.after(time(from)), |tick| schedule.after(tick.at()));
    let ticks = ticks.take_while(|tick| tick.at() <= to);
    ticks.map(|tick| tick.at().to_string().replace(".000000", "")).collect()
}

fn cron(text: &str, zone: &str) -> Schedule {
    Schedule::cron(text).unwrap().time_zone(zone).unwrap()
}

fn refused(schedule: Result<Schedule, Error>) -> (String, String) {
    let error = schedule.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    (error.message().into(), error.advice().unwrap().into())
}

#[test]
fn intervals_are_at_their_multiples_whenever_one_starts() {
    let quarter = Schedule::every(Duration::from_secs(900)).unwrap();
    let expected = ["2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"];
    for from in ["2026-01-01T00:00:00Z", "2026-01-01T00:14:59.999999Z"] {
        assert_eq!(ticks(&quarter, from, "2026-01-01T00:44:00Z"), expected);
    }
    assert_eq!(quarter.after(time("1969-01-01T00:00:00Z")).unwrap().at().as_micros(), 900_000_000);
    let longest = Schedule::every(Duration::MAX).unwrap();
    assert_eq!(longest.after(time("2026-01-01T00:00:00Z")), None);
    let end = Timestamp::from_micros(i64::MAX);
    assert_eq!(quarter.after(end), None);
}

#[test]
fn intervals_that_are_too_short_are_refused() {
    assert_eq!(refused(Schedule::every(Duration::ZERO)).0, "`every` is zero");
    assert!(refused(Schedule::every(Duration::from_micros(999))).0.contains("less than a milli"));
}

#[test]
fn times_come_in_order_once_each_and_end() {
    let texts = ["2026-01-02T00:00:00Z", "2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z"];
    let at = Schedule::at(texts).unwrap();
    let all = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"];
    assert_eq!(ticks(&at, "2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"), all);
    assert_eq!(at.after(time("2026-01-02T00:00:00Z")), None);
    assert!(!at.is_endless());
}

#[test]
fn times_that_are_none_are_refused() {
    assert!(refused(Schedule::at(["tomorrow"])).0.contains("`tomorrow` is not an RFC 3339 time"));
    assert!(refused(Schedule::at(["2026-01-01T00:00:00"])).1.contains("+02:00"));
    assert!(refused(Schedule::at(["1969-12-31T00:00:00Z"])).0.contains("before 1970"));
    assert!(refused(Schedule::at::<&str>([])).0.contains("no time"));
}

#[test]
fn cron_has_five_fields_or_six_with_seconds() {
    let day = |text| {
        ticks(&Schedule::cron(text).unwrap(), "2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z")
    };
    assert_eq!(day("30 2 * * FRI"), ["2026-01-02T02:30:00Z"]);
    assert_eq!(day("15 30 2 * * 5"), ["2026-01-02T02:30:15Z"]);
    assert_eq!(day("@weekly"), ["2026-01-04T00:00:00Z"]);
    assert_eq!(day("0 0 3,5 * *").len(), 2);
    // Either day will do, unless both are asked for.
    assert_eq!(day("0 0 3 * MON").len(), 2);
    assert_eq!(day("0 0 3 * +SAT"), ["2026-01-03T00:00:00Z"]);
    let last = Schedule::cron("0 12 L * *").unwrap();
    assert_eq!(
        last.after(time("2028-02-01T00:00:00Z")).unwrap().at(),
        time("2028-02-29T12:00:00Z")
    );
}

#[test]
fn what_is_wrong_in_an_expression_is_shown_with_its_field() {
    for (text, why, mark) in [
        ("0 25 * * *", "`25` can't be the hour", "1 | 0 25 * * *\n  |   ^^"),
        ("0 0 * * MOO", "`MOO` can't be the day of the week", "|         ^^^"),
        ("61 0 0 * * *", "`61` can't be the second", "| ^^"),
        ("*/0 * * * *", "`*/0` can't be the minute", "| ^^^"),
        ("5-1 * * * *", "`5-1` can't be the minute", "| ^^^"),
        ("0 0 32 * *", "`32` can't be the day of the month", "|     ^^"),
        ("0 0 * 13 *", "`13` can't be the month", "|       ^^"),
        ("0 0 é * *", "`é` can't be the day of the month", "|     ^"),
        ("* * * *", "5 fields, or 6 with seconds, not 4", "^^^^^^^"),
        ("* * * * * * *", "not 7", "^^^^^^^^^^^^^"),
        ("", "not 0", ""),
        ("@dayly", "`@dayly` is not a name of a schedule", "did you mean `@daily`?"),
        ("0 0 30 2 *", "`0 0 30 2 *` never comes", ""),
    ] {
        let (message, advice) = refused(Schedule::cron(text));
        assert!(message.contains(why), "{text}: {message}\n{advice}");
        assert!(message.contains(mark) || advice.contains(mark), "{text}: {message}\n{advice}");
    }
    assert!(refused(Schedule::cron(&"0,".repeat(200))).0.contains("at most 256 bytes"));
}

#[test]
fn no_text_makes_the_parser_panic() {
    let parts = [
        "*",
        "5",
        "@",
        "L",
        "W",
        "#",
        "-",
        "/",
        ",",
        "+",
        "?",
        "99999999999",
        "é",
        "ß",
        "MON",
        " ",
    ];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text += parts[(random >> 33) as usize % parts.len()];
            text += if random >> 60 & 3 == 0 { "" } else { " " };
        }
        let _ = Schedule::cron(text.trim());
        // Fields by five are nearer to what is right.
        let five: Vec<_> = text.split_whitespace().take(5).collect();
        if let Ok(schedule) = Schedule::cron(&five.join(" ")) {
            assert!(schedule.after(time("2026-01-01T00:00:00Z")).is_some(), "{five:?}");
        }
    }
}

#[test]
fn unknown_zones_are_refused_with_the_nearest() {
    let zone = |name| refused(Schedule::cron("0 2 * * *").unwrap().time_zone(name));
    assert!(zone("Europe/Berln").1.contains("did you mean `Europe/Berlin`?"));
    assert!(zone("Berlin").1.contains("did you mean `Europe/Berlin`?"));
    assert!(zone("xyzzy").1.contains("IANA"));
    let every = Schedule::every(Duration::from_secs(1)).unwrap();
    assert!(refused(every.time_zone("UTC")).0.contains("only a cron expression"));
    assert_eq!(cron("0 2 * * *", "europe/berlin").to_string(), "cron 0 2 * * * Europe/Berlin");
}

/// Zone, the night without 02:30 and when its gap ends, the night with two, and what UTC says to
/// the first and the second.
const NIGHTS: [(&str, &str, &str, &str, &str, &str, &str); 3] = [
    (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-03-29T01:00:00Z",
        "30 2 * * *",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-26T01:30:00Z",
    ),
    (
        "America/New_York",
        "30 2 * * *",
        "2026-03-08T07:00:00Z",
        "30 1 * * *",
        "2026-11-01T05:30:00Z",
        "2026-11-01T06:30:00Z",
        "2026-11-02T06:30:00Z",
    ),
    // Half an hour: 02:00 to 02:30 are missing, 01:30 to 02:00 come twice.
    (
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-03T15:30:00Z",
        "45 1 * * *",
        "2026-04-04T14:45:00Z",
        "2026-04-04T15:15:00Z",
        "2026-04-05T15:15:00Z",
    ),
];

fn hours(around: &str, hours: i64) -> String {
    Timestamp::from_micros(time(around).as_micros() + hours * 3_600_000_000).to_string()
}

#[test]
fn a_time_in_a_gap_runs_once_at_the_first_instant_after_it() {
    for (zone, gap, after_gap, ..) in NIGHTS {
        let schedule = cron(gap, zone);
        let night = ticks(&schedule, &hours(after_gap, -12), &hours(after_gap, 12));
        assert_eq!(night, [after_gap], "{zone}");
        // Asked from any moment, in the gap's place or just before its end.
        for back in [1, 500_000, 1_000_000, 60_000_000, 3_600_000_000] {
            let from = Timestamp::from_micros(time(after_gap).as_micros() - back);
            assert_eq!(schedule.after(from).unwrap().at(), time(after_gap), "{zone} {back}");
        }
    }
}

#[test]
fn several_times_in_a_gap_are_one_and_those_after_it_stay() {
    let schedule = cron("15,45 2,3 * * *", "Europe/Berlin");
    let night = ticks(&schedule, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
    assert_eq!(night, ["2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z", "2026-03-29T01:45:00Z"]);
}

/// Every pattern against the rule said plainly: look at what the clock shows each minute.
#[test]
fn all_that_a_pattern_means_comes_and_nothing_else() {
    let patterns =
        ["15,45 1,2,3 * * *", "0 0-4 * * *", "*/10 1-3 * * *", "7 * * * *", "59 1 * * *"];
    for (zone, _, gap, _, fold, ..) in NIGHTS {
        for (around, text) in [gap, fold].iter().flat_map(|at| patterns.map(|text| (at, text))) {
            let (from, to) = (hours(around, -6), hours(around, 6));
            let schedule = cron(text, zone);
            let found = ticks(&schedule, &from, &to);
            assert_eq!(found, plainly(text, zone, &from, &to), "{zone} {text} around {around}");
        }
    }
}

/// Returns the ticks by walking through the minutes; patterns of minute and hour alone.
fn plainly(text: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let mut parts = text.split(' ');
    let minutes = numbers(parts.next().unwrap(), 60);
    let hours = numbers(parts.next().unwrap(), 24);
    let fixed = !text.split(' ').take(2).any(|part| part.contains('*'));
    let zone = jiff::tz::TimeZoneDatabase::bundled().get(zone).unwrap();
    let shown = |micros: i64| {
        let time = jiff::Timestamp::from_microsecond(micros).unwrap();
        time.to_zoned(zone.clone()).datetime()
    };
    let matches = |at: jiff::civil::DateTime| {
        hours.contains(&i32::from(at.hour())) && minutes.contains(&i32::from(at.minute()))
    };
    let (mut found, mut seen) = (Vec::new(), std::collections::HashSet::new());
    let (mut at, to) = (time(from).as_micros(), time(to).as_micros());
    let mut before = shown(at);
    // What the clock shows is followed minute by minute, and so is what it leaves out.
    while at < to {
        at += 60_000_000;
        let now = shown(at);
        let mut due = false;
        let mut left_out = before + jiff::SignedDuration::from_mins(1);
        while fixed && left_out < now {
            due |= matches(left_out) && seen.insert(left_out);
            left_out += jiff::SignedDuration::from_mins(1);
        }
        due |= matches(now) && (seen.insert(now) || !fixed);
        if due {
            found.push(Timestamp::from_micros(at).to_string().replace(".000000", ""));
        }
        before = now;
    }
    found
}

fn numbers(field: &str, most: i32) -> Vec<i32> {
    let one = |part: &str| match (part.split_once("*/"), part.split_once('-')) {
        (Some((_, step)), _) => (0..most).step_by(step.parse().unwrap()).collect(),
        (_, Some((from, to))) => (from.parse().unwrap()..=to.parse().unwrap()).collect(),
        _ if part == "*" => (0..most).collect::<Vec<_>>(),
        _ => vec![part.parse().unwrap()],
    };
    field.split(',').flat_map(one).collect()
}

#[test]
fn a_time_that_comes_twice_runs_once_at_the_first() {
    for (zone, _, _, fold, first, second, next) in NIGHTS {
        let schedule = cron(fold, zone);
        let night = ticks(&schedule, &hours(first, -12), &hours(first, 26));
        assert_eq!(night, [first, next], "{zone}");
        for from in [first, second] {
            assert_eq!(schedule.after(time(from)).unwrap().at(), time(next), "{zone} {from}");
        }
    }
}

#[test]
fn what_follows_the_clock_has_no_hole_and_no_heap_when_clocks_change() {
    for (zone, _, gap, _, first, ..) in NIGHTS {
        for around in [gap, first] {
            let half = cron("*/30 * * * *", zone);
            let ticks = ticks(&half, &hours(around, -3), &hours(around, 3));
            let times: Vec<_> = ticks.iter().map(|at| time(at).as_micros()).collect();
            assert!(times.windows(2).all(|t| t[1] - t[0] == 1_800_000_000), "{zone}: {ticks:?}");
        }
    }
}

#[test]
fn jitter_is_the_same_for_all_and_keeps_the_order() {
    let hour = Duration::from_secs(3600);
    let (jitter, plain) = (Duration::from_secs(1800), Schedule::every(hour).unwrap());
    let one = plain.clone().jitter(jitter).unwrap();
    let other = Schedule::every(hour).unwrap().jitter(jitter).unwrap();
    let all: Vec<_> =
        std::iter::successors(one.after(time("2026-01-01T00:00:00Z")), |tick| one.after(tick.at()))
            .take(500)
            .collect();
    let dues: Vec<_> = all.iter().map(|tick| one.due("report", *tick)).collect();
    assert!(all.iter().all(|tick| one.due("report", *tick) == other.due("report", *tick)));
    assert!(dues.windows(2).all(|two| two[0] < two[1]));
    let late: Vec<_> = all.iter().zip(&dues).map(|(tick, due)| due.since(tick.at())).collect();
    assert!(late.iter().all(|late| *late < jitter));
    // It is spread: each quarter of the time has its share of 500.
    for quarter in 0..4_u32 {
        let range = jitter * quarter / 4..jitter * (quarter + 1) / 4;
        let share = late.iter().filter(|late| range.contains(*late)).count();
        assert!((75..=175).contains(&share), "{quarter}: {share}");
    }
    assert!(refused(plain.clone().jitter(hour)).0.contains("time between two ticks"));
    let often = Schedule::cron("* * * * *").unwrap();
    assert!(often.clone().jitter(Duration::from_secs(60)).is_err());
    assert!(often.jitter(Duration::from_secs(59)).is_ok());
    assert_eq!(plain.missed(Missed::All).to_string(), "every 3600s");
}

#[test]
fn ids_follow_from_name_and_time_alone() {
    let from = time("2026-01-01T00:00:00Z");
    let cron = Schedule::cron("0 * * * *").unwrap().after(from).unwrap();
    let every = Schedule::every(Duration::from_secs(3600)).unwrap().after(from).unwrap();
    assert_eq!((cron, cron.id("a")), (every, every.id("a")));
    // What is stored in a fleet of two versions must stay what it is.
    assert_eq!(cron.id("a"), "2a9b37c7-99be-587b-a845-def8ddb78db0");
    assert_ne!(cron.id("a"), cron.id("b"));
}
