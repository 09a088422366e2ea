//! What a listener to a file holds back until it is due makes nothing slower, however much it is.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Event,
    backend::{Backend, Order, Outgoing, Source, Start, Subscribe},
    backends,
    options::Options,
    predicate::Interest,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How many are held back, once few and once many.
const HELD: [usize; 2] = [20, 40_000];

/// How often what is measured is done; the fastest counts.
const TIMES: usize = 20;

async fn publish(backend: &Arc<dyn Backend>, events: impl Iterator<Item = Event>) {
    let batch: Vec<Outgoing> = events.map(Into::into).collect();
    backend.publish(&batch).await.into_iter().for_each(|result| result.unwrap());
}

#[tokio::test]
async fn a_listener_does_not_go_through_all_that_it_holds_back() {
    let mut took = [[Duration::MAX; 2]; 2];
    for (took, held) in took.iter_mut().zip(HELD) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}?synchronous=normal", folder.path().join("a.db").display());
        let backend = backends::open(Options::parse(&url).unwrap()).await.unwrap();
        let request = Subscribe {
            group: None,
            interest: Interest::all(),
            start: Start::Newest,
            lease: Duration::from_secs(60),
            order: Order::Any,
        };
        let source: Arc<dyn Source> = backend.subscribe(request).await.unwrap();
        let hour = Duration::from_secs(3600);
        let later = |n: usize| Event::new("later").id(n.to_string()).delay(hour).payload(n);
        for from in (0..held).step_by(5_000) {
            publish(&backend, (from..held.min(from + 5_000)).map(later)).await;
        }
        for n in 0..TIMES {
            publish(&backend, std::iter::once(Event::new("now").payload(n))).await;
            let began = Instant::now();
            let leased = source.fetch(1).await.unwrap().pop().unwrap();
            took[0] = began.elapsed().min(took[0]);
            assert_eq!(leased.event.unwrap().payload::<usize>().unwrap(), n);
            let began = Instant::now();
            assert_eq!(source.handed_out().await.unwrap(), None, "some are held back");
            took[1] = began.elapsed().min(took[1]);
        }
        for n in 0..held.min(300) {
            assert!(backend.withdraw(&n.to_string()).await.unwrap());
        }
        let all = (held <= 300).then_some(TIMES as u64);
        assert_eq!(source.handed_out().await.unwrap(), all);
        backend.close(Duration::from_secs(60)).await.unwrap();
    }
    for at in [0, 1] {
        let [few, many] = [took[0][at], took[1][at]];
        assert!(many < few * 10, "{few:?} and {many:?}");
    }
}
