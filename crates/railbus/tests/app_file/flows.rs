//! Flows: in the app file and in files of their own, and what can't be built of them.

use super::{APP, Folder, mistakes::each};
use railbus::app::LoadError;
use std::fs;

#[test]
fn what_can_not_be_built_is_told_at_its_step_in_the_words_of_the_file() {
    let steps = "[steps.b]\ncommand = [\"sh\"]\ninput = [\"order\"]\n\
                 [steps.c]\ncommand = [\"sh\"]\noutput = \"order\"\n\
                 [steps.d]\ncommand = [\"sh\"]\noutput = \"order\"\n[pipelines.q]\n";
    each(
        &format!("{APP}{steps}"),
        &[
            (
                "flow = \"a -> b\"\ninput = [\"x\"]",
                18,
                14,
                "nothing leaves `order`",
                "pipeline's `input`",
            ),
            ("flow = \"c || b\"", 18, 14, "`order` of step `c` is not there", "that `output`, too"),
            (
                "flow = \"a(0 -> c) -> b\"",
                18,
                22,
                "is not there on every way",
                "that `output`, too",
            ),
            ("flow = \"c || d\"", 18, 8, "both leave `order`", "another `output`"),
            ("flow = \"b\"\ninput = [\"order\", \"order\"]", 19, 9, "comes twice", "once"),
        ],
    );
}

#[test]
fn a_flow_may_have_a_file_of_its_own() {
    let folder = Folder::new();
    let app = APP.replace("flow = \"a\"", "flow_file = \"p.flow\"");
    folder.write("p.flow", "\u{feff}# once\r\na\r\n");
    let spec = folder.load(&app, &[]).unwrap();
    assert_eq!(spec.pipeline("p").unwrap().steps, ["a"]);
    folder.write("p.flow", "a\n  -> \u{6f22} a");
    let problems = folder.problems(&app, &[]);
    let [problem] = problems.list() else { panic!("{problems}") };
    assert_eq!(problem.line_column(), Some((5, 13)), "{problems}");
    assert_eq!(
        problem.message,
        "p.flow:2:6: unexpected `\u{6f22}`\n2 |   -> \u{6f22} a\n  |      ^^"
    );
    folder.write("p.flow", "a -> bb");
    let problems = folder.problems(&app, &[]);
    assert!(
        problems.list()[0].message.starts_with("p.flow:1:6: there is no step `bb`"),
        "{problems}"
    );
    assert_eq!(problems.list()[0].hint.as_deref(), Some("known: a"));
}

#[test]
fn a_flow_file_that_is_none_says_why() {
    let folder = Folder::new();
    let said = |text: &str| {
        let problems = folder.problems(text, &[]);
        let [problem] = problems.list() else { panic!("{problems}") };
        (problem.message.clone(), problem.hint.clone().unwrap_or_default())
    };
    let app = APP.replace("flow = \"a\"", "flow_file = \"p.flow\"");
    let (why, hint) = said(&app);
    assert!(why.starts_with("there is no such file (file: ") && why.contains("p.flow"), "{why}");
    assert!(hint.contains("fulfil.flow"), "{hint}");
    for (bytes, part) in [
        (vec![b'a', b'\n', 0xff], "not UTF-8"),
        (vec![b' '; (1 << 20) + 1], "larger than 1 MiB"),
        (vec![], "the flow is empty"),
        (b"a\0".to_vec(), "unexpected"),
    ] {
        folder.write("p.flow", bytes);
        let (why, hint) = said(&app);
        assert!(why.contains(part) && why.contains("p.flow") && !hint.is_empty(), "{why}\n{hint}");
    }
    fs::remove_file(folder.0.join("p.flow")).unwrap();
    fs::create_dir(folder.0.join("p.flow")).unwrap();
    let (why, hint) = said(&app);
    assert!(why.starts_with("this is a folder") && hint.contains("name the file"), "{why}\n{hint}");
    let both = APP.replace("flow = \"a\"", "flow = \"a\"\nflow_file = \"p.flow\"");
    assert!(said(&both).0.contains("both `flow` and `flow_file`"));
}

#[test]
fn a_flow_of_a_mebibyte_is_read_or_refused_for_what_is_wrong_in_it() {
    let folder = Folder::new();
    let app = APP.replace("flow = \"a\"", "flow_file = \"p.flow\"");
    let comment = format!("a # {}", "x".repeat((1 << 20) - 4));
    folder.write("p.flow", comment);
    folder.load(&app, &[]).unwrap();
    for (text, part) in [
        ("a -> ".repeat(200_000), "p.flow:1:6: step `a` is named twice"),
        (format!("{}a{}", "{".repeat(10_000), "}".repeat(10_000)), "within one another"),
    ] {
        folder.write("p.flow", text);
        let Err(LoadError::Problems(problems)) = folder.load(&app, &[]) else { panic!("{part}") };
        assert!(problems.list()[0].message.contains(part), "{problems}");
        assert!(problems.to_string().len() < 1_000, "{problems}");
    }
}
