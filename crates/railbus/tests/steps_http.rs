//! Steps that are requests: what is sent, what answers come to, and servers that misbehave.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "steps_http/answers.rs"]
mod answers;
#[cfg(feature = "app")]
#[path = "steps_http/app.rs"]
mod app;
#[path = "steps_http/faults.rs"]
mod faults;
#[path = "steps_http/requests.rs"]
mod requests;
#[path = "steps_http/server.rs"]
mod server;

use railbus::{
    event::Event,
    step::{Input, InputParts, Step, StepError, StepResult, Store},
    steps::http::HttpStep,
};
use serde_json::{Value, json};

async fn run(step: &HttpStep) -> StepResult {
    let event = Event::new("order.placed").id("e-1").topic("shop:orders").correlation("c-1");
    let parts = InputParts::default().event(event.payload(json!({"n": 1}))).tries(3, 2);
    step.run(Input::of(&Store::default(), &parts)).await
}

/// Runs a step that must come to an exception; returns its kind and what it says.
async fn exception(step: &HttpStep) -> (String, String) {
    match run(step).await.unwrap_err() {
        StepError::Exception(e) => (e.kind, e.error.to_string()),
        other => panic!("no exception: {other:?}"),
    }
}

/// Runs a step that must come to a failure; returns its message and value.
async fn failure(step: &HttpStep) -> (String, Value) {
    match run(step).await.unwrap_err() {
        StepError::Failure(f) => (f.message().to_owned(), f.found().clone()),
        other => panic!("no failure: {other:?}"),
    }
}
