//! How a mistake is drawn below its line.

use railbus::{
    Error, ErrorKind, Pipeline, StepDef, Steps,
    pipeline::text::{parse, unresolved},
};

fn show(text: &str) -> String {
    parse(text).unwrap_err().show(text)
}

#[test]
fn carets_stand_below_the_mistake() {
    assert_eq!(show("a => b"), "1 | a => b\n  |   ^^");
    assert_eq!(show(""), "1 |\n  | ^");
    assert_eq!(show("a ->"), "1 | a ->\n  |   ^^");
    // By columns, not by bytes.
    assert_eq!(show("a # é\n → b"), "2 |  → b\n  |  ^");
    assert_eq!(show("a\u{3000}=> b"), "1 | a\u{3000}=> b\n  |    ^^");
    // Tabs stay, carriage returns and control characters don't.
    assert_eq!(show("\ta\tb\r\n-> c"), "1 | \ta\tb\n  | \t \t^");
    assert_eq!(show("\u{1b}[31ma"), "1 | \u{fffd}[31ma\n  | ^");
}

#[test]
fn the_second_place_is_shown_on_its_own_line_or_below_the_first() {
    assert_eq!(
        show("check -> ship -> check"),
        "1 | check -> ship -> check\n  \
           |                  ^^^^^\n  \
           | ----- first named here"
    );
    let text = format!("check\n{}-> check", "\n".repeat(9));
    assert_eq!(
        show(&text),
        "11 | -> check\n   \
            |    ^^^^^\n \
          1 | check\n   \
            | ----- first named here"
    );
}

#[test]
fn an_error_says_all_it_has_to_say_before_it_draws() {
    let steps = ["check", "ship"].map(|name| StepDef::value(name, |_| 1));
    let steps = steps.into_iter().fold(Steps::new(), Steps::add);
    let build = |flow: &str| Pipeline::new("checkout").steps(steps.clone()).flow(flow).build();
    let error = build("check ->\n  ship -> check").unwrap_err();
    assert_eq!(
        error.to_string(),
        "flow: step `check` is named twice (pipeline: checkout)\n\
         2 |   ship -> check\n  \
           |           ^^^^^\n\
         1 | check ->\n  \
           | ----- first named here"
    );
    let error = build("check => ship").unwrap_err();
    let outer = Error::new(ErrorKind::Config, "app", "it can't start").because(error);
    assert_eq!(
        railbus::error::chain(&outer.with("file", "app.toml")),
        "app: it can't start (file: app.toml): flow: unexpected `=>` (pipeline: checkout)\n\
         1 | check => ship\n  \
           |       ^^"
    );
}

#[test]
fn a_mistake_over_several_lines_is_marked_on_its_first() {
    assert_eq!(show("a -> {\n\n}"), "1 | a -> {\n  |      ^");
    assert_eq!(show("\n\n"), "1 |\n  | ^");
}

#[test]
fn a_long_line_is_cut_around_the_mistake() {
    let line: String = (10..60).map(|i| format!("step-{i} -> ")).collect();
    let text = format!("{line}b c -> {}z", line.replace("step", "more"));
    let shown = show(&text);
    let expected = "\
1 | …6 -> step-57 -> step-58 -> step-59 -> b c -> more-10 -> more-11 -> more-12 -> more-13 -> more-14 -> …
  |                                          ^";
    assert_eq!(shown, expected);
    // At the start and at the end of the line.
    assert!(show(&format!("; {line}")).starts_with("1 | ; step-10 -> "), "{}", show(&text));
    let end = show(&format!("{line};"));
    assert!(end.lines().next().unwrap().ends_with("step-59 -> ;"), "{end}");
    assert_eq!(end.lines().nth(1).unwrap().find('^'), Some(4 + 100));
    // A span as long as the text.
    assert!(show(&"1".repeat(5000)).len() < 300);
}

#[test]
fn names_are_looked_up_with_all_mistakes_at_once() {
    let text = "validate -> chrage(ship -> notify, x -> B)";
    let flow = parse(text).unwrap();
    let errors = unresolved(&flow, &["validate", "charge", "ship", "notify"], |name| {
        format!("what is {name}?")
    });
    let found: Vec<_> =
        errors.iter().map(|e| (&text[e.span.clone()], &*e.message, &*e.hint)).collect();
    let label = "did you mean 1 -> ship, after success, or 0 -> ship, after failure?";
    assert_eq!(
        found,
        [
            ("chrage", "there is no step `chrage`", "what is chrage?"),
            ("ship", "`ship` is a step, not the label of a branch", label),
            ("B", "there is no step `B`", "what is B?"),
        ]
    );
    let flow = parse("A(B->C,D->E)").unwrap();
    assert_eq!(unresolved(&flow, &["A", "B", "C", "D", "E"], |_| String::new()).len(), 2);
    assert!(unresolved(&flow, &["A", "C", "E"], |_| String::new()).is_empty());
}
