//! Retry policies: as values, as maps, shared, on the step and on its use.

use railbus::{IntoStep, Pipeline, Retry, State, json, retry::IntoRetry, step, store};
use std::{
    io::{self, ErrorKind::ConnectionRefused},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// Something far away that is there again at the third try.
#[derive(Default)]
struct Far(AtomicU32);

impl Far {
    fn get(&self, what: &str) -> io::Result<String> {
        match self.0.fetch_add(1, Relaxed) {
            0 | 1 => Err(io::Error::new(ConnectionRefused, "nobody listens")),
            _ => Ok(format!("{what}: 200")),
        }
    }
}

/// As a map: a type can't be in it, kinds can; that of an exception without one is `error`.
#[step(retry = json!({
    "max_attempts": 3, "backoff_factor": 0.001, "max_backoff": 0.01, "retry_on": ["error", "timeout"]
}))]
async fn network(url: &str, far: State<Far>) -> io::Result<String> {
    far.get(url)
}

#[derive(Debug)]
struct ConnectError;

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no connection")
    }
}

impl std::error::Error for ConnectError {}

/// Five tries, four waits: there is none after the last. The error is found among the causes.
#[step(retry = Retry::attempts(5).backoff(Duration::from_millis(1)).on::<ConnectError>())]
async fn query_database(query: &str) -> railbus::Result<u32> {
    let error = railbus::Error::new(railbus::ErrorKind::NotFound, "database", query.to_owned());
    Err(error.because(ConnectError))
}

/// Prints its waits, in milliseconds.
fn waits(retry: &Retry) {
    let waits = (1..retry.max_attempts()).filter_map(|n| retry.wait_after(n));
    let waits: Vec<_> = waits.map(|wait| wait.as_millis()).collect();
    println!("{} tries, waits of {waits:?} ms", retry.max_attempts());
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let retry = Retry::attempts(3) // the first try counts
        .backoff(Duration::from_millis(500)) // doubles with each wait
        .max_backoff(Duration::from_secs(30))
        .jitter(0.0) // the share of a wait that is left to chance
        .on::<io::Error>() // by type, anywhere among the causes
        .on_kind("timeout") // by kind, which a map and a file can say too
        .on_error(|error| error.to_string().contains("busy"));
    waits(&retry);
    waits(&json!({ "max_attempts": 3, "backoff": 1.0, "max_backoff": 10.0 }).into_retry()?);
    waits(&Retry::attempts(5).backoff_factor(Duration::from_secs(1)));
    println!("{} {}", retry.covers("timeout", &ConnectError), retry.covers("error", &ConnectError));

    // One value for two steps; no step can change another's.
    let soon = Duration::from_millis(1);
    let flaky = Retry::attempts(2).backoff_factor(soon).on::<io::Error>();
    let network_twice = network.named("archive").retry(flaky.clone()).bind("url", "network");
    let pipeline = Pipeline::new("twice").state(Far::default());
    let pipeline = pipeline.step(network.retry(flaky.clone())).step(network_twice).build()?;
    println!("{}", pipeline.run(store! { "url" => "http://example.com" }).await);
    let pipeline = Pipeline::new("thrice").state(Far::default()).step(network).build()?;
    println!("{}", pipeline.run(store! { "url" => "http://example.com" }).await);

    let pipeline = Pipeline::new("db").step(query_database).build()?;
    println!("{}", pipeline.run(store! { "query" => "select 1" }).await);

    let slip = network.retry(json!({ "max_attempt": 3 }));
    if let Err(error) = Pipeline::new("slip").state(Far::default()).step(slip).build() {
        println!("{error}\n  {}", error.advice().unwrap_or_default());
    }
    Ok(())
}
