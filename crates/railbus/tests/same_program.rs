//! Two of the numbered examples on every backend that can run them, by its URL alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "everywhere/places.rs"]
mod places;

#[allow(dead_code)]
#[path = "../examples/31_same_program.rs"]
mod same_program;
#[allow(dead_code)]
#[path = "../examples/32_producer_and_consumer.rs"]
mod producer_and_consumer;

/// What both say to this process, which is one: one test runs them after one another.
#[railbus::test(timeout = "4m")]
async fn the_same_program_says_the_same_on_every_backend() {
    let expected: Vec<_> = include_str!("../examples/31_same_program.out").lines().collect();
    for place in places::all() {
        let said = same_program::program(&place.url).await.unwrap();
        assert_eq!(said, expected, "{}", place.url);
    }
    let expected: Vec<_> =
        include_str!("../examples/32_producer_and_consumer.out").lines().collect();
    for place in places::durable() {
        let said = producer_and_consumer::program(&place.url).await.unwrap();
        assert_eq!(said, expected, "{}", place.url);
    }
}
