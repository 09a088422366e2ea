//! The suite on postgres-queue: it passes all.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, backends,
    conformance::{Certificate, Counts, Member, Status, Suite, Target},
    options::Options,
};
use railbus_testbed::Postgres;

fn counts() -> Counts {
    if std::env::var_os("RAILBUS_STRESS").is_some() { Counts::stress() } else { Counts::short() }
}

fn show(certificate: &Certificate) -> String {
    let times = certificate.cases.iter().map(|c| format!("{} {:?}", c.name, c.elapsed));
    format!("{}\n{}", certificate.to_markdown(), times.collect::<Vec<_>>().join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_queue_passes_all() {
    let server = Postgres::options().setting("max_connections", "300").start().unwrap();
    let database = server.database().unwrap();
    let url = database.url("postgres-queue");
    let of_member = url.clone();
    let target = Target::url(&url).unwrap().member(move || {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_member_that_is_killed", "--nocapture"]);
        command.env("RAILBUS_TEST_URL", &of_member);
        command
    });
    let certificate = Suite::new(target).counts(counts()).run().await.unwrap();
    println!("{}", show(&certificate));
    for case in &certificate.cases {
        assert_eq!(case.status, Status::Passed, "{}", show(&certificate));
    }
    let bus = Bus::open(&url).await.unwrap();
    let groups = bus.keeper().unwrap().groups().await.unwrap();
    assert!(groups.is_empty(), "left behind: {groups:?}");
}

/// The suite starts this test as a process of its own; alone it does nothing.
#[tokio::test]
async fn a_member_that_is_killed() {
    if let Some(member) = Member::from_env().unwrap() {
        let url = std::env::var("RAILBUS_TEST_URL").unwrap();
        let backend = backends::open(Options::parse(&url).unwrap()).await.unwrap();
        member.run(backend, std::io::stdout()).await.unwrap();
    }
}
