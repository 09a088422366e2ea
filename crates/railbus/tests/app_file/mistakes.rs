//! Every mistake: its place, what is said about it, and the hint.

use super::{APP, Folder};
use railbus::{
    app::{AppSpec, LoadError, Place},
    error::ErrorKind,
};
use std::path::Path;

/// A mistake: the text, then line, column, and how message and hint begin or what they contain.
pub(super) type Mistake = (&'static str, usize, usize, &'static str, &'static str);

/// Checks that each text, put after `before`, has exactly the one mistake.
pub(super) fn each(before: &str, mistakes: &[Mistake]) {
    let folder = Folder::new();
    for (text, line, column, message, hint) in mistakes {
        let problems = folder.problems(&format!("{before}{text}"), &[]);
        let [problem] = problems.list() else { panic!("{text}\n{problems}") };
        assert_eq!(problem.line_column(), Some((*line, *column)), "{text}\n{problems}");
        assert!(problem.message.contains(message), "{text}\n{problems}");
        let found = problem.hint.as_deref().unwrap_or_default();
        assert!(found.contains(hint), "{text}\n{problems}");
        assert_eq!(hint.is_empty(), found.is_empty(), "{text}\n{problems}");
    }
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let folder = Folder::new();
    for (name, value, why) in [
        ("RAILBUS_URL", "", "RAILBUS_URL: is empty"),
        ("RAILBUS_URL", "orders.db", "RAILBUS_URL: a bus URL starts with a scheme"),
        ("RAILBUS_BUS__KIND", " ", "RAILBUS_BUS__KIND: is empty"),
    ] {
        let problems = folder.problems(APP, &[(name, value)]);
        assert_eq!(problems.list().len(), 1, "{problems}");
        assert_eq!(problems.list()[0].place, Place::Variable(name.into()));
        assert!(problems.to_string().starts_with(why), "{problems}");
        assert!(problems.to_string().contains("\n  hint: "), "{problems}");
    }
}

#[test]
fn mistakes_in_the_bus() {
    let rest = "\n[[input]]\nkind = \"interval\"\nevery = \"1s\"\ntype = \"t\"\n";
    let folder = Folder::new();
    let cases: &[Mistake] = &[
        ("", 1, 1, "no backend is named: there is no `bus`", "RAILBUS_URL"),
        ("bus = \"memory:\"", 1, 7, "`bus` must be a table, not a string", "bus.url = "),
        ("[bus]", 1, 2, "no backend is named", "add bus.url"),
        ("[bus]\nulr = \"memory:\"", 2, 1, "no backend is named", "did you mean `url`?"),
        ("bus.url = 3", 1, 11, "`url` must be a string, not a whole number", ""),
        ("bus.url = \"\"", 1, 11, "`url` is empty", ""),
        ("bus.url = \"orders.db\"", 1, 11, "starts with a scheme", "sqlite:PATH"),
        ("bus.url = \"sqlite:x?a\"", 1, 11, "`a` has no value", "key=value"),
        ("bus.url = \"memory:\"\nbus.kind = \"x\"", 2, 5, "both say where", "keep `url` alone"),
        ("bus.url = \"memory:\"\nbus.path = \"x\"", 2, 5, "both say where", "keep `url` alone"),
        ("bus.kind = \"memory\"\nbus.backend = \"memory\"", 2, 5, "say the same", "keep one"),
        ("bus.redis_url = \"memory:\"\nbus.url = \"memory:\"", 2, 5, "say the same", "keep one"),
        ("bus.redis_url = \"redis://h/x\"", 1, 17, "is not a database", "a whole number"),
        ("bus.kind = \"sqlite:x.db\"", 1, 12, "is not a backend's name", "set `url`"),
        ("bus.url = \"memory:\"\nbus.x = [1]", 2, 9, "must be a string, a number or a", ""),
        (
            "bus.url = \"sqlite:x?max_size=1\"\nbus.max_size = 2",
            2,
            5,
            "`max_size` is given twice",
            "keep one",
        ),
    ];
    for (text, line, column, message, hint) in cases {
        let problems = folder.problems(&format!("{text}{rest}"), &[]);
        let [problem] = problems.list() else { panic!("{text}\n{problems}") };
        assert_eq!(problem.line_column(), Some((*line, *column)), "{text}\n{problems}");
        assert!(problem.message.contains(message), "{text}\n{problems}");
        assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{text}\n{problems}");
    }
}

#[test]
fn mistakes_at_the_root() {
    each(
        "",
        &[
            ("", 1, 1, "nothing to run: the file is empty", "[[on]]"),
            ("# nothing\n\n", 1, 1, "nothing to run: the file is empty", "[[on]]"),
            ("bus.url = \"memory:\"", 1, 1, "nothing to run: there is no [[on]]", "[[on]]"),
        ],
    );
    each(
        APP,
        &[
            ("[stepz.b]", 8, 2, "`stepz` is not a key of the file", "did you mean `steps`?"),
            ("[zzz]", 8, 2, "`zzz` is not a key of the file", "known: bus, input, steps, pip"),
            ("[input]\nkind = \"ndjson\"", 8, 1, "must be an array of tables", "[[input]]"),
        ],
    );
    each("bus.url = \"memory:\"\n", &[("on = [1]", 2, 7, "`on` must hold tables", "[[on]]")]);
    each(
        "bus.url = \"memory:\"\n",
        &[("on = 1", 2, 6, "`on` must be an array of tables", "[[on]]")],
    );
    each(APP, &[("[steps.a]", 8, 8, "`a` is given twice", "keep one")]);
    each(APP, &[("limit = 1\nlimit = 2", 9, 1, "`limit` is given twice", "keep one")]);
}

#[test]
fn a_mistake_that_concerns_two_places_tells_both() {
    let folder = Folder::new();
    let tick = "[[input]]\nkind = \"interval\"\nevery = \"1s\"\ntype = \"tick\"\n";
    for (text, first, also, why) in [
        // A flow over several lines, whose mistake is in one, and what it is about in another.
        (APP.replace("\"a\"", "\"\"\"\n  a ->\n  a\"\"\""), (7, 3), (6, 3), "first named here"),
        (format!("{APP}[steps.a]"), (8, 8), (2, 1), "first given here"),
        (format!("{APP}limit = 1\nlimit = 2"), (9, 1), (8, 1), "first given here"),
        (format!("{APP}[[on]]\npipeline = \"p\""), (9, 12), (7, 12), "the first is here"),
        (format!("{APP}{tick}{tick}"), (15, 8), (11, 8), "the first is here"),
        (format!("bus.path = \"x\"\n{APP}"), (1, 5), (2, 5), "`url` is here"),
        (format!("bus.redis_url = \"memory:\"\n{APP}"), (2, 5), (1, 5), "`redis_url` is here"),
        (
            APP.replace("[\"true\"]", "[\"true\"]\npost = \"http://h/\""),
            (4, 1),
            (3, 1),
            "`command` is here",
        ),
    ] {
        let problems = folder.problems(&text, &[]);
        let [problem] = problems.list() else { panic!("{text}\n{problems}") };
        assert_eq!(problem.line_column(), Some(first), "{text}\n{problems}");
        let (place, said) = problem.also.as_ref().unwrap();
        assert_eq!((place.line_column(), &**said), (Some(also), why), "{text}\n{problems}");
        let line = format!("\n  {}:{}:{}: {why}\n  hint: ", problems.file(), also.0, also.1);
        assert!(problems.to_string().contains(&line), "{problems}");
    }
    // Where it was is not told if that is not for sure.
    let limits = format!("{APP}where = {{ limit = 1, limit = 2 }}");
    assert_eq!(folder.problems(&limits, &[]).list()[0].also, None);
}

#[test]
fn mistakes_in_inputs() {
    each(
        &format!("{APP}[[input]]\n"),
        &[
            ("path = \"x\"", 8, 1, "[[input]] has no `kind`", "kind = "),
            ("kind = \"ndjsn\"", 9, 8, "`ndjsn` is not a kind of input", "mean `ndjson`?"),
            ("kind = \"command\"\nx = 1", 9, 8, "not yet available", "available: ndjson"),
            ("kind = \"cron\"\ntype = \"t\"", 8, 1, "has no `cron`", "0 2 * * *"),
            ("kind = \"at\"\ntype = \"t\"", 8, 1, "has no `at`", "2026-04-01"),
            ("kind = 1", 9, 8, "`kind` must be a string", ""),
            ("kind = \"ndjson\"", 8, 1, "has no `path`", "standard input"),
            ("kind = \"ndjson\"\npath = \"\"", 10, 8, "`path` is empty", ""),
            (
                "kind = \"ndjson\"\npath = \"-\"\ntypefield = \"t\"",
                11,
                1,
                "typefield",
                "`type_field`?",
            ),
            ("kind = \"ndjson\"\npath = \"-\"\ntopic = \"a{b\"", 11, 11, "not closed", "{event}"),
            (
                "kind = \"ndjson\"\npath = \"-\"\ntopic = \"a}\"",
                11,
                11,
                "closes nothing",
                "{event}",
            ),
            (
                "kind = \"ndjson\"\npath = \"-\"\ntopic = \"a:{}\"",
                11,
                12,
                "names no key",
                "{event}",
            ),
            ("kind = \"ndjson\"\npath = \"-\"\ntopic = \"{a{b}\"", 11, 12, "inside", "{event}"),
            ("kind = \"interval\"\ntype = \"t\"", 8, 1, "has no `every`", "every = "),
            ("kind = \"interval\"\nevery = \"1s\"", 8, 1, "has no `type`", "type = "),
            ("kind = \"interval\"\ntype = \"t\"\nevery = \"0s\"", 11, 9, "more than zero", ""),
            ("kind = \"interval\"\ntype = \"t\"\nevery = \"-1s\"", 11, 9, "not a duration", "30s"),
            (
                "kind = \"interval\"\ntype = \"t\"\nevery = 5",
                11,
                9,
                "must be a duration",
                "\"30s\"",
            ),
            (
                "kind = \"interval\"\ntype = \"t\"\nevery = \"1s\"\npath = \"x\"",
                12,
                1,
                "`path`",
                "known: kind",
            ),
            (
                "kind = \"interval\"\ntype = \"t\"\nevery = \"1s\"\npayload = nan",
                12,
                11,
                "JSON",
                "",
            ),
        ],
    );
    let twice =
        "[[input]]\nkind = \"ndjson\"\npath = \"-\"\n[[input]]\nkind = \"ndjson\"\npath = \"-\"";
    each(APP, &[(twice, 13, 8, "two inputs `stdin`", "give this one a `name`")]);
}

#[test]
fn mistakes_in_flows_point_into_the_text() {
    each(
        &format!("{APP}[steps.charge]\ncommand = [\"sh\"]\n[pipelines.q]\n"),
        &[
            ("", 10, 1, "[pipelines.q] has no `flow`", "flow = "),
            ("flow = 1", 11, 8, "`flow` must be a string", ""),
            ("flow = \"\"", 11, 8, "the flow is empty", "name at least one step"),
            ("flow = \"a -> chrage\"", 11, 14, "no step `chrage`", "did you mean `charge`?"),
            ("flow = 'a -> zzz'", 11, 14, "no step `zzz`", "known: a, charge"),
            ("flow = \"a(0 -> charge, 0 -> a)\"", 11, 24, "given twice", "join the two"),
            ("flow = \"a -> -> charge\"", 11, 14, "between two arrows", "remove"),
            ("flow = \"a -> a\"", 11, 14, "named twice", "another name"),
            ("flow = \"\"\"\n  a ->\n  chrage\"\"\"", 13, 3, "no step `chrage`", "`charge`?"),
            ("flow = \"\\u0061 -> chrage\"", 11, 8, "no step `chrage`", "`charge`?"),
            ("flw = \"a\"\nflow = \"a\"", 11, 1, "`flw` is not a key", "mean `flow`?"),
        ],
    );
    each(APP, &[("[pipelines.\"1\"]\nflow = \"a\"", 8, 12, "`1` is not a name", "letters")]);
    let none = "bus.url = \"memory:\"\n[pipelines.p]\nflow = \"a\"\n[[on]]\npipeline = \"p\"";
    each("", &[(none, 3, 9, "there is no step `a`", "declare it: [steps.a]")]);
}

#[test]
fn mistakes_in_subscriptions() {
    each(
        APP,
        &[
            ("typ = \"x\"", 8, 1, "`typ` is not a key of [[on]]", "mean `type`? Known: name, type"),
            ("type = \"\"", 8, 8, "`type` is empty", ""),
            ("type = \"shop:*\"", 8, 13, "a type has no `:`", "write topic = \"shop:*\""),
            ("topic = \" \"", 8, 9, "`topic` is empty", ""),
            ("topic = [\"x\"]", 8, 9, "`topic` must be a string, not an array", ""),
            ("group = \"\"", 8, 9, "`group` is empty", ""),
            ("name = 1", 8, 8, "`name` must be a string", ""),
            ("limit = 0", 8, 9, "`limit` must be from 1", ""),
            ("limit = -4", 8, 9, "`limit` must be from 1", ""),
            ("limit = \"4\"", 8, 9, "`limit` must be a whole number", ""),
            ("lease = \"999ms\"", 8, 9, "`lease` must be at least 1s", "30s"),
            ("lease = 30", 8, 9, "`lease` must be a duration", "\"30s\""),
            ("then = \"deadletter\"", 8, 8, "not a value of `then`", "mean `dead_letter`?"),
            ("retry = { max_attempts = 0 }", 8, 26, "from 1 to", ""),
            ("where = \"x\"", 8, 9, "`where` must be a table", "sender.type"),
            ("where = {}", 8, 9, "`where` is empty", "sender.type"),
            ("where = { a = [1] }", 8, 15, "must be a string, a number or a boolean", ""),
            ("where = { a = {} }", 8, 15, "`a` is empty", "sender.type"),
            ("where = { \"\" = 1 }", 8, 11, "a path in `where` is empty", "sender.type"),
            ("where = { a = inf }", 8, 15, "JSON can't hold", ""),
            ("[[on]]\npipeline = \"p\"", 9, 12, "two subscriptions `p` outside", "a `name`"),
            ("[[on]]\ntype = \"x\"", 8, 1, "[[on]] has no `pipeline`", "pipeline = "),
            ("[[on]]\npipeline = \"pp\"", 9, 12, "no pipeline `pp`", "mean `p`?"),
        ],
    );
    let group = "group = \"g\"\n[[on]]\ngroup = \"g\"\npipeline = \"p\"\ntype = \"x\"";
    let grouped = APP.replace("memory:", "sqlite:x.db");
    each(&grouped, &[(group, 11, 12, "two subscriptions `p` in group `g`", "a `name`")]);
    let named = "[[on]]\npipeline = \"p\"\nname = \"p\"";
    each(APP, &[(named, 10, 8, "two subscriptions `p` outside groups", "a `name`")]);
    let none = "bus.url = \"memory:\"\n[[on]]\npipeline = \"p\"";
    each("", &[(none, 3, 12, "there is no pipeline `p`", "declare it: [pipelines.p]")]);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let folder = Folder::new();
    let text = r#"bus.url = "nothing"
[[on]]
pipeline = "fulfill"
limit = 0
lease = "0.5s"
[steps.a]
comand = ["sh"]
[steps.b]
command = ["sh"]
timeout = "soon"
timeout = "1s"
[pipelines.fulfil]
flow = "a -> c -> d"
"#;
    let problems = folder.problems(text, &[("RAILBUS_BUS__URL", "")]);
    let places: Vec<_> = problems.list().iter().map(|p| p.line_column()).collect();
    let expected = [
        None,
        Some((1, 11)),
        Some((3, 12)),
        Some((4, 9)),
        Some((5, 9)),
        Some((6, 1)),
        Some((7, 1)),
        Some((10, 11)),
        Some((11, 1)),
        Some((13, 14)),
        Some((13, 19)),
    ];
    assert_eq!(places, expected, "{problems}");
    let file = folder.0.join("app.toml");
    let line = format!(
        "{}:3:12: there is no pipeline `fulfill`\n  hint: did you mean `fulfil`? Known: fulfil\n",
        file.display()
    );
    assert!(problems.to_string().contains(&line), "{problems}");
    assert_eq!(problems.file(), file.display().to_string());
}

#[test]
fn all_mistakes_of_syntax_are_told_and_nothing_is_guessed_from_them() {
    let folder = Folder::new();
    let problems = folder.problems("bus.url = memory:\n[[on]]\nname = 'p\nlimit == 1\n", &[]);
    let lines: Vec<_> = problems.list().iter().filter_map(|p| p.line_column()).collect();
    assert_eq!(lines, [(1, 11), (3, 10), (4, 8), (4, 10)], "{problems}");
}

#[test]
fn columns_count_characters_and_lines_may_end_in_any_way() {
    let folder = Folder::new();
    let text =
        format!("\u{feff}{APP}where = {{ \"größe\" = 1 }}\ntype = \"é:\"\n").replace('\n', "\r\n");
    let problems = folder.problems(&text, &[]);
    assert_eq!(problems.list().len(), 1, "{problems}");
    assert_eq!(problems.list()[0].line_column(), Some((9, 10)), "{problems}");
    let Place::File { span, .. } = &problems.list()[0].place else { panic!() };
    assert_eq!(&text.trim_start_matches('\u{feff}')[span.clone()], ":");
}

#[test]
fn what_can_not_be_read_as_text_says_why() {
    let folder = Folder::new();
    let error = |path: &Path| match AppSpec::load(path, std::iter::empty()) {
        Err(LoadError::File(error)) => error,
        other => panic!("{other:?}"),
    };
    let missing = error(&folder.0.join("none.toml"));
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("none.toml"), "{missing}");
    let directory = error(&folder.0);
    assert_eq!(directory.kind(), ErrorKind::Config);
    assert!(directory.advice().unwrap().ends_with("app.toml"), "{directory}");
    let binary = error(&folder.write("b.toml", b"bus.url = 'm:'\n# \xff\n"));
    assert_eq!(binary.kind(), ErrorKind::Decode);
    assert!(binary.to_string().contains("not UTF-8 (file: "), "{binary}");
    assert!(binary.to_string().ends_with("line: 2)"), "{binary}");
    let large = error(&folder.write("l.toml", " ".repeat(1024 * 1024 + 1)));
    assert_eq!(large.kind(), ErrorKind::TooLarge);
    let padding = 1024 * 1024 - APP.len();
    assert!(folder.load(format!("{APP}{}", " ".repeat(padding)), &[]).is_ok());
}

#[test]
fn a_file_with_nothing_but_mistakes_is_told_in_time() {
    let lines: String = (0..60_000).map(|n| format!("k{n} = 1\n")).collect();
    let problems = Folder::new().problems(&format!("{APP}{lines}"), &[]);
    assert_eq!(problems.list().len(), 60_000);
    assert_eq!(problems.list()[59_999].line_column(), Some((60_007, 1)));
    let (url, rest) = APP.split_once('\n').unwrap();
    let problems = Folder::new().problems(&format!("{rest}[bus]\n{}\n{lines}", &url[4..]), &[]);
    assert_eq!(problems.list().len(), 60_000);
    assert_eq!(problems.list()[0].line_column(), Some((9, 1)));
}
