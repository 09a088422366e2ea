//! A run of the suite, of which all passes that the backend claims, and the rest is refused.

use railbus::{
    backend::{Capability, Keyed, Replay},
    conformance::{Certificate, Counts, Status, Suite, Target},
};
use std::env;

/// What is not run where there is no server, or nobody who controls it.
pub(crate) const SERVER: [&str; 8] = [
    "wrong password",
    "reconnect",
    "reset",
    "black hole",
    "latency",
    "server restarted",
    "server killed",
    "server paused",
];

/// Tells whether a case is of what only groups have.
fn is_of_groups(case: &str) -> bool {
    let of_groups = [
        "continue after close",
        "close at once",
        "continue after nacks",
        "cancelled",
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
        "keeper",
        "batch receive",
        "partial settle",
        "outcomes",
        "dedup window",
    ];
    of_groups.contains(&case)
}

/// Tells whether a case shows what the backend claims.
fn is_claimed(case: &str, c: &Capability) -> bool {
    match case {
        "order by key" | "hot key" => c.keyed != Keyed::None,
        "late subscriber" => c.replay != Replay::None,
        "delayed events" => c.publish_delay_max.is_some(),
        "withdrawal" => c.withdraws,
        "positions" => c.positions,
        "journal" => c.journal,
        case => c.groups || !is_of_groups(case),
    }
}

/// Runs the suite, with `RAILBUS_STRESS` in full, or with `RAILBUS_CASES` some of it, and checks
/// what each case came to.
pub(crate) async fn shows(target: Target, not_run: &[&str]) -> Certificate {
    shows_in(target, Counts::short(), not_run).await
}

/// As [`shows`], with so much of everything unless it is to be in full.
pub(crate) async fn shows_in(target: Target, counts: Counts, not_run: &[&str]) -> Certificate {
    let stress = env::var_os("RAILBUS_STRESS").is_some();
    let counts = if stress { Counts::stress() } else { counts };
    let suite = Suite::new(target).counts(counts);
    let suite = match env::var("RAILBUS_CASES") {
        Ok(cases) => suite.only(cases.split(',')),
        Err(_) => suite,
    };
    let certificate = suite.run().await.unwrap();
    println!("{}", certificate.to_markdown());
    let mut wrong = Vec::new();
    for case in &certificate.cases {
        println!("{} {:?}", case.name, case.elapsed);
        let expected = match case.name {
            name if !is_claimed(name, &certificate.capability) => Status::Refused,
            name if not_run.contains(&name) => Status::NotRun,
            _ => Status::Passed,
        };
        if case.status != expected {
            wrong.push(format!("{} {}: {:?}", case.name, case.status, case.why));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Of some cases all may be refused.
    let some = env::var_os("RAILBUS_CASES").is_some();
    assert!(some || certificate.is_conformant());
    certificate
}
