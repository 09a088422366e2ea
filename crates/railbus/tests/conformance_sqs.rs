//! The suite on queues of a service that answers as SQS does.
#![cfg(feature = "sqs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certified;

use certified::{certified, shows_in};
use railbus::{
    backends,
    conformance::{Counts, Member, Target},
    options::Options,
};
use railbus_testbed::Moto;
use std::{env, process::Command};

/// What moto is not asked for: it takes any credentials, forgets everything when it ends, and, as SQS
/// does, takes no bytes that are no text.
const NOT_RUN: [&str; 5] =
    ["poison", "wrong password", "server restarted", "server killed", "server paused"];

/// Returns how much of everything is done: moto answers a few hundred requests a second.
fn few() -> Counts {
    let mut few = Counts::short();
    (few.events, few.shared, few.published, few.topics) = (20, 200, 60, 8);
    (few.many_topics, few.nacks, few.reopened, few.faulted) = (60, 60, 6, 240);
    few
}

#[tokio::test(flavor = "multi_thread")]
async fn sqs_passes_all_that_it_claims() {
    let server = Moto::start().unwrap();
    let url = format!("{}&create=true&wait_time_seconds=1", server.url("c-{group}"));
    let of_member = url.clone();
    let target = Target::url(&url).unwrap().member(move || {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "a_member_that_is_killed", "--nocapture"]);
        command.env("RAILBUS_TEST_URL", &of_member);
        command
    });
    certified(&shows_in(target, few(), &NOT_RUN).await);
}

/// The suite starts this test as a process of its own; alone it does nothing.
#[tokio::test]
async fn a_member_that_is_killed() {
    if let Some(member) = Member::from_env().unwrap() {
        let url = env::var("RAILBUS_TEST_URL").unwrap();
        let backend = backends::open(Options::parse(&url).unwrap()).await.unwrap();
        member.run(backend, std::io::stdout()).await.unwrap();
    }
}
