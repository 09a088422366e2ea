//! The suite on the backends on servers, which are stopped, killed, paused and cut off meanwhile.
#![cfg(any(feature = "nats", feature = "redis", feature = "postgres"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certified;

use certified::{certified, shows};
use railbus::{
    backends,
    conformance::{Control, Member, Target},
    options::Options,
};
use railbus_testbed::Server;
use std::{env, ops::Deref, process::Command, sync::Arc};

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

#[cfg(feature = "nats")]
mod nats {
    use super::*;
    use railbus_testbed::Nats;

    #[tokio::test(flavor = "multi_thread")]
    async fn nats_passes_all_that_it_claims() {
        let server = Nats::options().user("app", "s3cret").start().unwrap();
        let url = server.url();
        certified(&shows(target(&url, &Arc::new(server)), &[]).await);
    }
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use railbus_testbed::Redis;

    #[tokio::test(flavor = "multi_thread")]
    async fn redis_passes_what_is_broadcast_and_refuses_groups() {
        let server = Redis::options().password("s3cret").start().unwrap();
        let url = server.url("redis");
        certified(&shows(target(&url, &Arc::new(server)), &[]).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn redis_streams_pass_all_that_they_claim() {
        let server = Redis::options().password("s3cret").appendonly(true).start().unwrap();
        let url = server.url("redis-streams");
        certified(&shows(target(&url, &Arc::new(server)), &[]).await);
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
        certified(&shows(target(&url, &server), &[]).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_queue_passes_all() {
        let (server, url) = server("postgres-queue");
        certified(&shows(target(&url, &server), &[]).await);
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
