//! The suite catches mutants of queues.
#![cfg(feature = "sqs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mutants;

use mutants::{Mutant, Needs, some_are_caught};
use railbus_testbed::Moto;

/// What is broken: not all that there is, since moto answers a few hundred requests a second.
const BROKEN: [Mutant; 15] = [
    Mutant::ForgottenAck,
    Mutant::LostAttempt,
    Mutant::ForgottenDelay,
    Mutant::ForgottenExtension,
    Mutant::IgnoredFence,
    Mutant::TooMany,
    Mutant::LostOfBatch,
    Mutant::PublishedTwice,
    Mutant::LostMetadata,
    Mutant::LostReason,
    Mutant::RedrivenTwice,
    Mutant::AlikeInBatch,
    Mutant::PrunesAnything,
    Mutant::UnfilteredLetters,
    Mutant::CutPayload,
];

#[tokio::test(flavor = "multi_thread")]
async fn mutants_of_sqs_are_caught() {
    let server = Moto::start().unwrap();
    let url = || {
        let id = railbus::id::new_id();
        let name = format!("m{}-{{group}}", &id[id.len() - 12..]);
        format!("{}&create=true&wait_time_seconds=1", server.url(&name))
    };
    some_are_caught(url, &[Needs::Server], &BROKEN).await;
}
