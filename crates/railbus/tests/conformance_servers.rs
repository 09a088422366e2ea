//! The suite on the backends on servers, which are stopped, killed, paused and cut off meanwhile.
#![cfg(any(feature = "redis", feature = "postgres"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certified;

use certified::certified;
use railbus::{
    backend::Keyed,
    backends,
    conformance::{Certificate, Control, Counts, Member, Status, Suite, Target},
    options::Options,
};
use railbus_testbed::Server;
use std::{env, ops::Deref, process::Command, sync::Arc};

fn show(certificate: &Certificate) -> String {
    let times = certificate.cases.iter().map(|c| format!("{} {:?}", c.name, c.elapsed));
    format!("{}\n{}", certificate.to_markdown(), times.collect::<Vec<_>>().join("\n"))
}

/// Describes a server of the test's own, with all that can be done to it.
fn target<S: Deref<Target = Server> + Send + Sync + 'static>(url: &str, server: &Arc<S>) -> Target {
    let (of_member, server) = (url.to_owned(), Arc::clone(server));
    Target::url(url)
        .unwrap()
        .member(move || {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", "a_member_that_is_killed", "--nocapture"]);
            command.env("RAILBUS_TEST_URL", &of_member);
            command
        })
        .control(move |order| {
            let server = Arc::clone(&server);
            Box::pin(async move {
                let done = tokio::task::spawn_blocking(move || match order {
                    Control::Start => server.start_again(),
                    Control::Stop => server.stop(),
                    Control::Kill => server.kill(),
                    Control::Pause => server.pause(),
                    Control::Resume => server.resume(),
                    _ => Ok(()),
                });
                done.await.unwrap().unwrap();
                Ok(())
            })
        })
}

/// Runs the suite, or with `RAILBUS_CASES` some of it; all pass that are not refused or not run.
async fn passes(target: Target, refused: &[&str], not_run: &[&str]) {
    let stress = env::var_os("RAILBUS_STRESS").is_some();
    let counts = if stress { Counts::stress() } else { Counts::short() };
    let suite = Suite::new(target).counts(counts);
    let suite = match env::var("RAILBUS_CASES") {
        Ok(cases) => suite.only(cases.split(',')),
        Err(_) => suite,
    };
    let certificate = suite.run().await.unwrap();
    println!("{}", show(&certificate));
    let mut wrong = Vec::new();
    for case in &certificate.cases {
        let keyed = certificate.capability.keyed != Keyed::None;
        let expected = match case.name {
            "order by key" | "hot key" if !keyed => Status::Refused,
            name if refused.contains(&name) => Status::Refused,
            name if not_run.contains(&name) => Status::NotRun,
            _ => Status::Passed,
        };
        if case.status != expected {
            wrong.push(format!("{} {}: {:?}", case.name, case.status, case.why));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if certificate.cases.len() == Suite::names().len() {
        certified(&certificate);
    }
}

/// What a backend without groups refuses.
const GROUPS: [&str; 22] = [
    "order by key",
    "hot key",
    "continue after close",
    "close at once",
    "continue after nacks",
    "cancelled",
    "late subscriber",
    "two groups",
    "slow consumer",
    "bounded memory",
    "exclusivity",
    "nack delay",
    "lease expiry",
    "extension",
    "stale ack",
    "kill -9",
    "clocks apart",
    "dead letter",
    "redrive",
    "batch receive",
    "partial settle",
    "dedup window",
];

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use railbus_testbed::Redis;

    #[tokio::test(flavor = "multi_thread")]
    async fn redis_passes_what_is_broadcast_and_refuses_groups() {
        let server = Redis::options().password("s3cret").start().unwrap();
        let url = server.url("redis");
        let refused: Vec<_> = GROUPS.into_iter().chain(["delayed events"]).collect();
        passes(target(&url, &Arc::new(server)), &refused, &[]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn redis_streams_pass_all_that_they_claim() {
        let server = Redis::options().password("s3cret").appendonly(true).start().unwrap();
        let url = server.url("redis-streams");
        passes(target(&url, &Arc::new(server)), &[], &[]).await;
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::*;
    use railbus_testbed::Postgres;

    fn server(scheme: &str) -> (Arc<Postgres>, String) {
        let server = Postgres::options().password("s3cret").setting("max_connections", "300");
        let server = server.start().unwrap();
        let url = server.database().unwrap().url(scheme);
        (Arc::new(server), url)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_passes_what_is_broadcast_and_refuses_groups() {
        let (server, url) = server("postgres");
        let refused: Vec<_> = GROUPS.into_iter().chain(["delayed events"]).collect();
        passes(target(&url, &server), &refused, &[]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_queue_passes_all() {
        let (server, url) = server("postgres-queue");
        passes(target(&url, &server), &[], &[]).await;
    }
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
