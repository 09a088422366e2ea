//! The suite on a backend that Railbus knows nothing of.
#![allow(clippy::unwrap_used)]

use railbus::{
    Bus, Options, backends,
    conformance::{Certificate, Counts, Member, Status, Suite, Target},
};
use std::{env, process::Command};

/// What there is no server for.
const SERVER: [&str; 8] = [
    "wrong password",
    "reconnect",
    "reset",
    "black hole",
    "latency",
    "server restarted",
    "server killed",
    "server paused",
];

/// What it does not claim, and refuses.
const REFUSED: [&str; 6] =
    ["order by key", "hot key", "delayed events", "withdrawal", "positions", "journal"];

fn check(certificate: &Certificate) {
    println!("{}", certificate.to_markdown());
    for case in &certificate.cases {
        let expected = match case.name {
            name if REFUSED.contains(&name) => Status::Refused,
            name if SERVER.contains(&name) => Status::NotRun,
            // Its leases are on the machine's clock, so that a member's can't be set wrong alone.
            "clocks apart" => Status::NotRun,
            _ => Status::Passed,
        };
        assert_eq!(case.status, expected, "{}: {:?}", case.name, case.why);
    }
    assert_eq!(certificate.cases.len(), Suite::names().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_passes_all_that_it_claims() {
    railbus_example_directory::register().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("directory:{}", folder.path().display());
    let (root, of_member) = (folder.path().to_owned(), url.clone());
    let target = Target::url(&url)
        .unwrap()
        .inject(move |topic, bytes| {
            let stored = railbus_example_directory::append_raw(&root, &topic, &bytes);
            Box::pin(async { stored })
        })
        .member(move || {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", "a_member_that_is_killed", "--nocapture"]);
            command.env("RAILBUS_TEST_URL", &of_member);
            command
        });
    let stress = env::var_os("RAILBUS_STRESS").is_some();
    let counts = if stress { Counts::stress() } else { Counts::short() };
    let certificate = Suite::new(target).counts(counts).run().await.unwrap();
    check(&certificate);
    let bus = Bus::open(&*url).await.unwrap();
    assert!(bus.keeper().unwrap().groups().await.unwrap().is_empty());
}

/// The suite starts this test as a process of its own; alone it does nothing.
#[tokio::test]
async fn a_member_that_is_killed() {
    if let Some(member) = Member::from_env().unwrap() {
        railbus_example_directory::register().unwrap();
        let url = env::var("RAILBUS_TEST_URL").unwrap();
        let backend = backends::open(Options::parse(&url).unwrap()).await.unwrap();
        member.run(backend, std::io::stdout()).await.unwrap();
    }
}
