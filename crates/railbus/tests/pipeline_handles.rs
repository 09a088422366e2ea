//! Pipelines as handlers of a group: which events are tried again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Event, IntoStep, Pipeline, Retry, StepDef, Value, backend::LetterFilter, json, step,
};
use std::time::Duration;

#[step]
fn price(id: &str, qty: u64) -> u64 {
    qty + id.len() as u64
}

#[step]
fn ship(price: u64, carrier: u64) -> u64 {
    price + carrier
}

/// Returns after how many attempts an event with this payload became a dead letter, and why.
async fn letter(payload: Value) -> (u32, String) {
    let bus = Bus::new();
    // Of another type than what is needed, which another time it may not be.
    let carrier = StepDef::value("carrier", |_| "none");
    let line = Pipeline::new("p").step(price).step(carrier).step(ship.bind("price", "price"));
    let retry = Retry::attempts(3).backoff(Duration::from_millis(1));
    bus.on("order").group("g").retry(retry).run(line.build().unwrap()).await.unwrap();
    bus.publish(Event::new("order").payload(payload)).await.unwrap();
    bus.idle().await.unwrap();
    let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    bus.close().await.unwrap();
    let [letter] = &letters[..] else { panic!("{} letters", letters.len()) };
    (letter.attempts, letter.reason.clone())
}

#[railbus::test]
async fn a_payload_that_no_other_try_makes_fit_is_a_dead_letter_at_once() {
    for payload in
        [json!({ "id": "c" }), json!("text"), json!(null), json!({ "id": "c", "qty": "x" })]
    {
        let (attempts, reason) = letter(payload.clone()).await;
        assert_eq!(attempts, 1, "{payload}: {reason}");
        assert!(reason.contains("input: "), "{reason}");
    }
}

#[railbus::test]
async fn a_value_of_another_type_that_a_step_left_is_tried_again() {
    let (attempts, reason) = letter(json!({ "id": "c", "qty": 1 })).await;
    assert_eq!(attempts, 3, "{reason}");
    assert!(reason.contains("`carrier` is not a u64"), "{reason}");
}
