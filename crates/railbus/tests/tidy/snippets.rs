//! The rules, each with the snippets that show what it catches and what it lets pass.

use super::{Case, Rule, documents, examples, order, rules, source::Source};

const A: &str = "crates/railbus/src/event.rs";

fn files(files: &[(&str, &str)]) -> Vec<Source> {
    files.iter().map(|(path, text)| Source::new(path, text)).collect()
}

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "imports follow the floors",
        check: order::imports_follow_the_floors,
        cases: &[Case {
            files: house,
            caught: &[
                "crates/railbus/src/backends/sqlite/reader.rs:1",
                "crates/railbus/src/backends/sqlite/reader.rs:2",
                "crates/railbus/src/backends/sqlite/reader.rs:3",
                "crates/railbus/src/error.rs:1",
                "crates/railbus/src/event.rs:4",
                "crates/railbus/src/event.rs:5",
                "crates/railbus/src/event.rs:6",
                "crates/railbus/src/event.rs:7",
            ],
        }],
    },
    Rule {
        name: "modules stand in order",
        check: order::modules_stand_in_order,
        cases: &[Case {
            files: || {
                files(&[
                    (
                        "crates/railbus/src/lib.rs",
                        "mod error;\npub mod event;\npub(crate) mod topic;\n",
                    ),
                    ("crates/railbus/src/error.rs", ""),
                    ("crates/railbus/src/attic.rs", ""),
                    ("crates/railbus/src/backends/mod.rs", "pub mod memory;\nmod inline {}\n"),
                    ("crates/railbus/src/backends/memory.rs", ""),
                    ("crates/railbus/src/backends/stray.rs", ""),
                ])
            },
            caught: &[
                "crates/railbus/src/attic.rs:1",
                "crates/railbus/src/backends/stray.rs:1",
                "crates/railbus/src/lib.rs:3",
            ],
        }],
    },
    Rule {
        name: "files are short",
        check: rules::files_are_short,
        cases: &[Case {
            files: || {
                let (short, long) = ("//\n".repeat(400), "//\n".repeat(401));
                files(&[("a.rs", &short), ("b.rs", &long), ("README.md", &long)])
            },
            caught: &["b.rs:1"],
        }],
    },
    Rule {
        name: "lines of SQL are short",
        check: rules::lines_of_sql_are_short,
        cases: &[Case {
            files: || {
                let (short, long) = ("ä".repeat(104), "ä".repeat(105));
                files(&[("a.sql", &format!("{short}\n{long}\n")), ("a.md", &long)])
            },
            caught: &["a.sql:2"],
        }],
    },
    Rule {
        name: "functions are short",
        check: rules::functions_are_short,
        cases: &[Case {
            files: || {
                let body = |lines| format!("{{\n{}}}\n", "    a();\n".repeat(lines));
                let short = format!("fn short(a: [u8; 3]) {}", body(68));
                let long = format!("{short}impl B {{\n    pub async fn long() {}}}\n", body(69));
                files(&[("a.rs", &short), ("b.rs", &long)])
            },
            caught: &["b.rs:72"],
        }],
    },
    Rule {
        name: "mod files only list",
        check: rules::mod_files_only_list,
        cases: &[Case {
            files: || {
                let long = "mod a;\n".repeat(81);
                files(&[
                    ("a/mod.rs", "mod b;\npub use b::B;\nfn c() {}\n"),
                    ("b/mod.rs", &long),
                    ("crates/railbus/src/backends/mod.rs", "fn table() {}\n"),
                    ("c/mod.rs", "//! A fn c() is not here.\nmod d;\n"),
                ])
            },
            caught: &["a/mod.rs:3", "b/mod.rs:1"],
        }],
    },
    Rule {
        name: "nothing is left open",
        check: rules::nothing_is_left_open,
        cases: &[Case {
            files: || {
                files(&[(A, "// todo!()\nfn a() { todo!() }\nlet s = \"dbg!\";\ndbg!(s);\n")])
            },
            caught: &["crates/railbus/src/event.rs:2", "crates/railbus/src/event.rs:4"],
        }],
    },
    Rule {
        name: "only output prints",
        check: rules::only_output_prints,
        cases: &[Case {
            files: || {
                let prints = "fn a() { println!(\"a\") }\n";
                let says = "#[cfg(test)]\nmod tests {\n    fn b() { eprintln!(\"b\") }\n}\n";
                files(&[
                    (A, &format!("{says}{prints}")),
                    ("crates/railbus-cli/src/output.rs", prints),
                    ("crates/railbus-cli/tests/run.rs", prints),
                    ("crates/railbus-cli/src/commands/run.rs", prints),
                    ("xtask/src/main.rs", prints),
                ])
            },
            caught: &["crates/railbus-cli/src/commands/run.rs:1", "crates/railbus/src/event.rs:5"],
        }],
    },
    Rule {
        name: "no test is ignored",
        check: rules::no_test_is_ignored,
        cases: &[Case {
            files: || files(&[("tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n")]),
            caught: &["tests/a.rs:2"],
        }],
    },
    Rule {
        name: "tests do not just sleep",
        check: rules::tests_do_not_just_sleep,
        cases: &[Case {
            files: || {
                let explained = "// sleep: the lease\n// must run out.\nsleep(1);\n";
                let beside = "sleep(1); // sleep: the lease must run out.\n";
                let text = format!("{explained}{beside}tokio::time::sleep(a).await;\n");
                files(&[("crates/railbus/tests/a.rs", &text), (A, "fn a() { sleep(1) }\n")])
            },
            caught: &["crates/railbus/tests/a.rs:5"],
        }],
    },
    Rule {
        name: "unsafe is forbidden",
        check: rules::unsafe_is_forbidden,
        cases: &[Case {
            files: || files(&[(A, "#![forbid(unsafe_code)]\nfn a() { unsafe { b() } }\n")]),
            caught: &["crates/railbus/src/event.rs:2"],
        }],
    },
    Rule {
        name: "nothing is unwrapped",
        check: rules::nothing_is_unwrapped,
        cases: &[Case {
            files: || {
                let code = "/// `a.unwrap()`\nfn a() { b.unwrap_or(1); c.unwrap() }\nfn d() { e\n.expect(\"\") }\n";
                let test = "#[cfg(test)]\nmod tests {\n    fn b() { c.unwrap() }\n}\n";
                files(&[(A, &format!("{code}{test}")), ("crates/railbus/tests/a.rs", code)])
            },
            caught: &["crates/railbus/src/event.rs:2", "crates/railbus/src/event.rs:4"],
        }],
    },
    Rule {
        name: "errors are documented",
        check: rules::errors_are_documented,
        cases: &[Case {
            files: documented,
            caught: &[
                "crates/railbus/src/event.rs:2",
                "crates/railbus/src/event.rs:13",
                "crates/railbus/src/event.rs:16",
            ],
        }],
    },
    Rule {
        name: "public items have examples",
        check: examples::public_items_have_examples,
        cases: &[Case {
            files: shown,
            caught: &[
                "crates/railbus/src/backends/mod.rs:1",
                "crates/railbus/src/bus/open.rs:1",
                "crates/railbus/src/event.rs:10",
                "crates/railbus/src/event.rs:12",
                "crates/railbus/src/event.rs:15",
                "crates/railbus/src/event.rs:17",
                "crates/railbus/src/event.rs:22",
            ],
        }],
    },
    Rule {
        name: "public enums are non-exhaustive",
        check: rules::public_enums_are_non_exhaustive,
        cases: &[Case {
            files: || {
                let attribute = "#[non_exhaustive]\n";
                let code = format!(
                    "{attribute}#[derive(Debug)]\npub enum A {{ B }}\npub enum C {{ D }}\n\
                     /// {attribute}pub enum E {{}}\n#[derive(Debug)]\n{attribute}\
                     pub enum F {{}}\nenum G {{}}\npub(crate) enum H {{}}\n// pub enum I\n\
                     mod j {{\n    #[non_exhaustive]\n    pub enum K {{}}\n    pub enum L {{}}\n}}\n\
                     #[cfg(test)]\nmod tests {{\n    pub enum M {{}}\n}}\n"
                );
                files(&[(A, &code), ("crates/railbus-cli/src/a.rs", "pub enum N {}\n")])
            },
            caught: &[
                "crates/railbus/src/event.rs:4",
                "crates/railbus/src/event.rs:6",
                "crates/railbus/src/event.rs:16",
            ],
        }],
    },
    Rule {
        name: "the changelog has unreleased lines",
        check: documents::the_changelog_has_unreleased_lines,
        cases: &[
            Case {
                files: || {
                    let text =
                        "# Changelog\n\n## Unreleased\n- added: a\n  and b\n- c\n\n## 0.1.0\n- d\n";
                    files(&[("CHANGELOG.md", text)])
                },
                caught: &["CHANGELOG.md:6"],
            },
            Case {
                files: || files(&[("CHANGELOG.md", "# Changelog\n\n## 0.1.0\n- added: a\n")]),
                caught: &["CHANGELOG.md:1"],
            },
            Case { files: Vec::new, caught: &["CHANGELOG.md:1"] },
        ],
    },
    Rule {
        name: "the readme shows code at once",
        check: documents::the_readme_shows_code_at_once,
        cases: &[Case {
            files: || files(&[("README.md", &format!("```sh\n{}```rust\n", "words\n".repeat(24)))]),
            caught: &["README.md:1"],
        }],
    },
    Rule {
        name: "no file names a machine",
        check: documents::no_file_names_a_machine,
        cases: &[Case {
            files: || {
                let (tmp, work) = (concat!("/t", "mp/"), concat!("/w", "ork/"));
                let text =
                    format!("see https://x.org{work}a or {{dir}}{tmp}b\nsee `{tmp}b`\n{work}c\n");
                files(&[("docs/a.md", &text)])
            },
            caught: &["docs/a.md:2", "docs/a.md:3"],
        }],
    },
];

/// Floors above, left, right and below; folders; tests; expressions; what re-exports would hide.
fn house() -> Vec<Source> {
    let event = "use crate::{clock::Timestamp, error::{Error, Result}};\n\
                 use crate::topic::{self, check_name};\n\
                 /// crate::bus::Bus\n\
                 use crate::{id, codec::{encode}, error::Error,};\n\
                 fn a() -> u8 { crate::bus::table::row() }\n\
                 use crate::Event;\n\
                 use super::delivery::Delivery;\n\
                 mod inner {\n    use super::Thing;\n    pub(in crate::event) fn a() {}\n}\n\
                 #[cfg(test)]\nmod tests {\n    use crate::bus::Bus;\n    use super::*;\n}\n";
    let reader = "use super::writer::Writer;\n\
                  use crate::backends::sqlite::Sqlite;\n\
                  use crate::bus::{Bus};\n\
                  use crate::backends::{memory, sqlite::schema::MIGRATIONS};\n\
                  use super::{schema::{self, *}}; use super::super::memory::Memory;\n";
    files(&[
        ("crates/railbus/src/lib.rs", "pub mod error;\npub use crate::bus::Bus;\n"),
        ("crates/railbus/src/backends/memory.rs", "use crate::backend::Backend;\n"),
        ("crates/railbus/src/backends/mod.rs", "pub mod memory;\npub mod sqlite;\n"),
        ("crates/railbus/src/backends/sqlite/mod.rs", "mod schema;\nmod reader;\nmod writer;\n"),
        ("crates/railbus/src/backends/sqlite/reader.rs", reader),
        ("crates/railbus/src/backends/sqlite/schema.rs", ""),
        ("crates/railbus/src/backends/sqlite/writer.rs", "use super::reader::Reader;\n"),
        ("crates/railbus/src/backend.rs", ""),
        ("crates/railbus/src/bus/mod.rs", "mod table;\nuse crate::bus::table::Table;\n"),
        ("crates/railbus/src/bus/table.rs", "use crate::event::Event;\n"),
        ("crates/railbus/src/clock.rs", "use crate::error::Error;\n"),
        ("crates/railbus/src/codec.rs", "use crate::event::Event;\n"),
        ("crates/railbus/src/delivery.rs", "use crate::event::Event;\n"),
        ("crates/railbus/src/error.rs", "use crate::id::new_id;\n"),
        ("crates/railbus/src/event.rs", event),
        ("crates/railbus/src/id.rs", ""),
        ("crates/railbus/src/topic.rs", "macro_rules! a { () => { $crate::bus::Bus } }\n"),
    ])
}

fn documented() -> Vec<Source> {
    let text = "/// Opens it.\n\
                pub fn open(path: &str) -> Result<Self, Error> {}\n\
                /// Closes it.\n///\n/// # Errors\n/// Never.\n#[must_use]\n\
                pub async fn close(f: fn(u8) -> Option<u8>) -> Result<()> {}\n\
                impl A for B {\n    fn a() -> Result<()> {}\n}\n\
                pub(crate) fn inner() -> Result<()> {}\n\
                pub const fn many<T>(\n    a: T,\n) -> io::Result<T> where T: A {}\n\
                pub fn soon() -> impl Future<Output = Result<()>> {}\n\
                pub fn maybe() -> Option<Result<()>> {}\n\
                pub fn taking(f: impl Fn() -> Result<()>) {}\n";
    files(&[(A, text)])
}

/// Items with an example, shown in another's, and shown nowhere.
fn shown() -> Vec<Source> {
    let event = "/// A.\n///\n/// # Examples\n/// ```\n/// A::new().shown().chained::<u8>();\n\
                 /// assert_eq!(LIMIT, 1); // hidden()\n/// ```\npub struct A;\n\
                 impl A {\n    pub fn missed(&self) {}\n    pub fn shown(&self) {}\n    \
                 pub const fn hidden() {}\n    pub async fn chained<T>(self) {}\n}\n\
                 pub fn shown() {}\npub const LIMIT: u8 = 1;\npub trait T {}\n\
                 pub struct IsMarker;\n#[doc(hidden)]\npub fn private() {}\n\
                 #[macro_export]\nmacro_rules! store { () => {} }\nmacro_rules! own { () => {} }\n\
                 pub(crate) fn within() {}\n#[cfg(test)]\nmod tests {\n    pub fn a() {}\n}\n";
    files(&[
        (A, event),
        ("crates/railbus/src/bus/mod.rs", "//! ```\n//! bus.open();\n//! ```\npub mod open;\n"),
        ("crates/railbus/src/bus/open.rs", "pub fn open() {}\nimpl B {\n    pub fn open() {}\n}\n"),
        ("crates/railbus/src/backends/mod.rs", "pub fn check() {}\n"),
        ("crates/railbus/src/backends/x/a.rs", "pub fn check() {}\npub const SETTINGS: u8 = 1;\n"),
        ("crates/railbus/src/runtime.rs", "pub struct Runtime;\n"),
        ("crates/railbus-cli/src/main.rs", "pub struct Args;\n"),
    ])
}
