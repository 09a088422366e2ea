//! What may be wrong in inputs that tick.

use super::{APP, Folder, mistakes::each};

#[test]
fn mistakes_in_schedules() {
    each(
        &format!("{APP}[[input]]\ntype = \"t\"\n"),
        &[
            ("kind = \"cron\"\ncron = \"0 25 * * *\"", 11, 11, "`25` can't be the hour", "0 to 23"),
            ("kind = \"cron\"\ncron = \"0 0 30 2 *\"", 11, 9, "never comes", "no month"),
            ("kind = \"cron\"\ncron = \"0 0\"", 11, 9, "5 fields", "0 2 * * *"),
            (
                "kind = \"cron\"\ncron = \"0 0 * * *\"\ntime_zone = \"Europe/Berln\"",
                12,
                14,
                "`Europe/Berln` is not a time zone",
                "mean `Europe/Berlin`?",
            ),
            (
                "kind = \"cron\"\ncron = \"@daily\"\ntimezone = \"UTC\"",
                12,
                1,
                "timezone",
                "`time_zone`?",
            ),
            ("kind = \"cron\"\ncron = \"@daily\"\nmissed = \"al\"", 12, 10, "`al`", "mean `all`?"),
            (
                "kind = \"cron\"\ncron = \"@daily\"\njitter = \"24h\"",
                12,
                10,
                "time between two",
                "shorter",
            ),
            ("kind = \"interval\"\nevery = \"1s\"\ncron = \"\"", 12, 1, "`cron`", "known: kind"),
            ("kind = \"interval\"\nevery = \"1us\"", 11, 9, "less than a millisecond", "30s"),
            ("kind = \"at\"\nat = \"soon\"", 11, 6, "not an RFC 3339 time", "2026-04-01"),
            ("kind = \"at\"\nat = 5", 11, 6, "`at` must hold times", "2026-04-01"),
            (
                "kind = \"at\"\nat = [2026-04-01T08:00:00Z, 3]",
                11,
                29,
                "not a whole number",
                "write",
            ),
            ("kind = \"at\"\nat = [\"soon\"]", 11, 7, "`soon` is not an RFC 3339 time", "write"),
            ("kind = \"at\"\nat = []", 11, 6, "there is no time", "at least one"),
        ],
    );
}

#[test]
fn a_time_zone_is_looked_at_also_beside_an_expression_that_is_wrong() {
    let input = "kind = \"cron\"\ntype = \"t\"\ncron = \"0 0\"\ntime_zone = \"Europe/Berln\"\n";
    let problems = Folder::new().problems(&format!("{APP}[[input]]\n{input}"), &[]);
    let text = problems.to_string();
    assert!(text.contains("5 fields") && text.contains("Europe/Berln"), "{text}");
}
