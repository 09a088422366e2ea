//! The suite catches mutants of the backend on NATS.
#![cfg(feature = "nats")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mutants;

use mutants::{Needs, all_are_caught, sane_passes};
use railbus_testbed::Nats;

const THERE: [Needs; 3] = [Needs::Server, Needs::Password, Needs::Bytes];

fn server() -> Nats {
    Nats::options().user("app", "s3cret").start().unwrap()
}

/// Returns the URL of what no other mutant hears. Ids are not known again there, or a mutant that
/// publishes each event twice would do no harm.
fn url(server: &Nats) -> String {
    format!("{}?duplicate_window=0s&prefix=m{}", server.url(), railbus::id::new_id())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_of_nats_is_caught() {
    let server = server();
    sane_passes(&url(&server), &THERE).await;
    all_are_caught(|| url(&server), &THERE).await;
}
