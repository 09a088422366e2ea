//! What waits in memory for its time or for other members is in nobody's way, however much it is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Event,
    backend::{Backend, Order, Settle, Source, Start, Subscribe, Verdict},
    backends, event_type,
    options::Options,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How many wait, once few and once many.
const WAIT: [usize; 2] = [200, 100_000];

/// How often what is measured is done in a round, and how many rounds there are: the fastest counts.
const TIMES: usize = 100;
const ROUNDS: usize = 5;

async fn memory() -> Arc<dyn Backend> {
    backends::open(Options::parse("memory:?queue=200000").unwrap()).await.unwrap()
}

async fn join(backend: &Arc<dyn Backend>, types: &str) -> Arc<dyn Source> {
    let request = Subscribe {
        group: Some("g".into()),
        interest: event_type(types).interest(),
        start: Start::Oldest,
        lease: Duration::from_secs(3600),
        order: Order::Any,
    };
    backend.subscribe(request).await.unwrap()
}

async fn publish(backend: &Arc<dyn Backend>, event: Event) {
    backend.publish(&[event.into()]).await.pop().unwrap().unwrap();
}

/// Checks that many that wait make no more of a difference than a cache does.
fn compare(few: Duration, many: Duration) {
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    assert!(ratio < 20.0, "{ratio:.1} times as long: {few:?}, {many:?}");
}

#[tokio::test]
async fn a_withdrawal_does_not_go_through_all_that_is_held_back() {
    let mut took = [Duration::MAX; 2];
    for (took, wait) in took.iter_mut().zip(WAIT) {
        let backend = memory().await;
        let _source = join(&backend, "a").await;
        for n in 0..wait + TIMES * ROUNDS {
            let later = Event::new("a").id(n.to_string()).delay(Duration::from_secs(3600));
            publish(&backend, later.payload(())).await;
        }
        for round in 0..ROUNDS {
            let began = Instant::now();
            for n in 0..TIMES {
                let id = (wait + round * TIMES + n).to_string();
                assert!(backend.withdraw(&id).await.unwrap());
            }
            *took = began.elapsed().min(*took);
        }
        assert!(!backend.withdraw(&wait.to_string()).await.unwrap(), "it is gone");
    }
    compare(took[0], took[1]);
}

#[tokio::test]
async fn a_claim_does_not_go_through_all_that_waits_for_other_members() {
    let mut took = [Duration::MAX; 2];
    for (took, wait) in took.iter_mut().zip(WAIT) {
        let backend = memory().await;
        let (source, others) = (join(&backend, "a").await, join(&backend, "b").await);
        for n in 0..wait {
            publish(&backend, Event::new("b").payload(n)).await;
        }
        for _ in 0..ROUNDS {
            let began = Instant::now();
            for n in 0..TIMES {
                publish(&backend, Event::new("a").payload(n)).await;
                let leased = source.fetch(1).await.unwrap().pop().unwrap();
                let ack = Settle::new(leased.receipt, Verdict::Ack);
                source.settle(&[ack]).await.pop().unwrap().unwrap();
            }
            *took = began.elapsed().min(*took);
        }
        // What waited is all there for whom it waited for, in order, also what was given back.
        for (n, is_given_back) in [(0, true), (0, false), (1, false)] {
            let leased = others.fetch(1).await.unwrap().pop().unwrap();
            assert_eq!(leased.event.unwrap().payload::<usize>().unwrap(), n);
            if is_given_back {
                let delay = Duration::ZERO;
                let again = Settle::new(leased.receipt, Verdict::Release { delay });
                others.settle(&[again]).await.pop().unwrap().unwrap();
            }
        }
    }
    compare(took[0], took[1]);
}
