//! The suite on postgres: what it claims passes, what it does not is refused.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::conformance::{Certificate, Counts, Status, Suite, Target};
use railbus_testbed::Postgres;

fn show(certificate: &Certificate) -> String {
    let times = certificate.cases.iter().map(|c| format!("{} {:?}", c.name, c.elapsed));
    format!("{}\n{}", certificate.to_markdown(), times.collect::<Vec<_>>().join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_passes_what_applies_and_refuses_the_rest() {
    let server = Postgres::options().setting("max_connections", "300").start().unwrap();
    let database = server.database().unwrap();
    let target = Target::url(&database.url("postgres")).unwrap();
    let certificate = Suite::new(target).counts(Counts::short()).run().await.unwrap();
    println!("{}", show(&certificate));
    let failed = certificate.cases.iter().filter(|case| case.status == Status::Failed);
    assert_eq!(failed.count(), 0, "{}", show(&certificate));
    let passed = certificate.cases.iter().filter(|case| case.status == Status::Passed);
    assert!(passed.count() > 10, "{}", show(&certificate));
}
