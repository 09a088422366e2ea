//! Batches of a group.

use super::stores::{Store, quick};
use railbus::{
    Batch, Bus, ErrorKind, Event, Retry,
    backend::Letter,
    context,
    delivery::{Class, Outcome},
    middlewares::Timeout,
    testing::Recorder,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, mpsc};

const LINGER: Duration = Duration::from_millis(40);
const NEVER: Duration = Duration::from_secs(3600);

async fn publish(bus: &Bus, numbers: std::ops::Range<u32>) {
    let events: Vec<_> =
        numbers.map(|n| Event::new("number").id(format!("n-{n}")).payload(n).into()).collect();
    for published in bus.publish_all(&events).await {
        published.unwrap();
    }
}

async fn letters(bus: &Bus) -> Vec<Letter> {
    bus.keeper().unwrap().letters(&Default::default()).await.unwrap()
}

/// What one call of the handler was given.
type Calls = Vec<(u32, u32)>;

/// The batches that came: of each item its number and its try.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Calls>>>);

impl Seen {
    fn add(&self, batch: &Batch<u32>) {
        self.0.lock().unwrap().push(batch.iter().map(|n| (**n, n.attempt())).collect());
    }

    fn all(&self) -> Vec<Vec<(u32, u32)>> {
        self.0.lock().unwrap().clone()
    }

    fn sorted(&self) -> Vec<(u32, u32)> {
        let mut all = self.all().concat();
        all.sort_unstable();
        all
    }
}

#[railbus::test]
async fn a_batch_is_handled_when_it_is_full_and_what_is_left_after_a_while() {
    for store in Store::all() {
        let (bus, seen) = (store.bus().await, Seen::default());
        let all = seen.clone();
        let on = bus.on("number").group("g").batch(20, LINGER);
        on.run(async move |batch: Batch<u32>| all.add(&batch)).await.unwrap();
        publish(&bus, 0..50).await;
        bus.idle().await.unwrap();
        let expected: Vec<_> = (0..50).map(|n| (n, 1)).collect();
        assert_eq!(seen.sorted(), expected, "{store}");
        let sizes: Vec<_> = seen.all().iter().map(Vec::len).collect();
        assert!(sizes.contains(&20) && sizes.iter().all(|size| *size <= 20), "{sizes:?} {store}");
    }
}

#[railbus::test]
async fn each_item_goes_its_own_way_whatever_the_others_do() {
    for store in Store::all() {
        let (bus, seen) = (store.bus().await, Seen::default());
        let all = seen.clone();
        let on = bus.on("number").group("g").named("sum").retry(quick(3)).batch(6, LINGER);
        let handler = async move |batch: Batch<u32>| {
            all.add(&batch);
            for number in batch {
                match (*number, number.attempt()) {
                    (1, 1) => number.fail("not yet"),
                    (2, _) => number.fail("never"),
                    (3, _) => number.settle(Outcome::DeadLetter("no such number".into())),
                    (4, 1) => number.settle(Outcome::Retry(Duration::from_millis(1))),
                    (5, _) => number.settle(Outcome::Skip),
                    _ => {}
                }
            }
        };
        on.run(handler).await.unwrap();
        publish(&bus, 0..6).await;
        bus.idle().await.unwrap();
        let expected =
            [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1), (4, 2), (5, 1)];
        assert_eq!(seen.sorted(), expected, "{store}");
        let mut dead: Vec<_> =
            letters(&bus).await.into_iter().map(|l| (l.event_id, l.reason, l.attempts)).collect();
        dead.sort();
        let expected = [("n-2", "never", 3), ("n-3", "no such number", 1)];
        let expected = expected.map(|(id, why, tries)| (id.to_owned(), why.to_owned(), tries));
        assert_eq!(dead, expected, "{store}");
    }
}

#[railbus::test]
async fn what_the_handler_returns_is_the_outcome_of_all_that_it_did_not_settle() {
    #[derive(Debug, thiserror::Error)]
    #[error("the table is gone")]
    struct Gone;

    for store in Store::all() {
        let (bus, seen) = (store.bus().await, Seen::default());
        let all = seen.clone();
        let classify = |error: &(dyn std::error::Error + 'static)| match error.is::<Gone>() {
            true => Class::Permanent,
            false => Class::Transient,
        };
        let handler = async move |batch: Batch<u32>| -> Result<(), railbus::BoxError> {
            all.add(&batch);
            let again = batch.iter().any(|number| number.attempt() > 1);
            for number in batch {
                if *number == 0 {
                    number.settle(());
                }
            }
            if again { Err(Gone.into()) } else { Err("the connection broke".into()) }
        };
        let on = bus.on("number").group("g").retry(quick(9)).classify(classify);
        on.batch(3, LINGER).run(handler).await.unwrap();
        publish(&bus, 0..3).await;
        bus.idle().await.unwrap();
        // That it is the user's own error is seen although it is shared.
        assert_eq!(seen.sorted(), [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2)], "{store}");
        let reasons: Vec<_> = letters(&bus).await.into_iter().map(|l| l.reason).collect();
        assert_eq!(reasons, ["the table is gone", "the table is gone"], "{store}");
        let history: Vec<_> =
            letters(&bus).await[0].history.iter().map(|t| t.reason.clone()).collect();
        assert_eq!(history, ["the connection broke", "the table is gone"], "{store}");
    }
}

#[railbus::test]
async fn a_panic_fails_the_batch_and_what_is_no_payload_of_its_type_fails_alone() {
    for store in Store::all() {
        let (bus, seen) = (store.bus().await, Seen::default());
        let all = seen.clone();
        let handler = move |batch: Batch<u32>| {
            all.add(&batch);
            assert!(batch.iter().all(|number| **number > 0), "zero");
        };
        let on = bus.on("number").group("g").retry(Retry::attempts(1));
        on.batch(3, LINGER).run(handler).await.unwrap();
        bus.publish(Event::new("number").id("text").payload("seven")).await.unwrap();
        publish(&bus, 0..2).await;
        bus.idle().await.unwrap();
        assert_eq!(seen.all(), [[(0, 1), (1, 1)]], "{store}");
        let mut dead: Vec<_> =
            letters(&bus).await.into_iter().map(|l| (l.event_id, l.reason)).collect();
        dead.sort();
        assert_eq!(dead[0], ("n-0".into(), "handler: panicked: zero".into()), "{store}");
        assert_eq!(dead[1].0, "n-1", "{store}");
        assert!(dead[2].0 == "text" && dead[2].1.contains("not a u32"), "{dead:?}");
        // Nothing but undecodable ones: the handler is not called.
        bus.publish(Event::new("number").payload("eight")).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!((seen.all().len(), letters(&bus).await.len()), (1, 4), "{store}");
    }
}

#[railbus::test]
async fn leases_are_kept_while_a_batch_is_gathered_and_handled() {
    for store in Store::all() {
        let (bus, seen) = (store.bus().await, Seen::default());
        let all = seen.clone();
        let lease = Duration::from_millis(200);
        let handler = async move |batch: Batch<u32>| {
            all.add(&batch);
            // sleep: longer than the leases last unless they are renewed.
            tokio::time::sleep(lease * 3).await;
        };
        let on = bus.on("number").group("g").lease(lease).batch(50, lease * 3);
        on.run(handler).await.unwrap();
        publish(&bus, 0..10).await;
        bus.idle().await.unwrap();
        let expected: Vec<_> = (0..10).map(|n| (n, 1)).collect();
        assert_eq!(seen.all(), [expected], "{store}");
    }
}

#[railbus::test]
async fn a_limit_of_one_batch_handles_one_at_a_time() {
    for store in Store::all() {
        let bus = store.bus().await;
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
        let handler = async move |_: Batch<u32>| {
            peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, SeqCst);
        };
        let on = bus.on("number").group("g").limit(5).batch(5, Duration::ZERO);
        on.run(handler).await.unwrap();
        publish(&bus, 0..60).await;
        bus.idle().await.unwrap();
        assert_eq!(most.load(SeqCst), 1, "{store}");
    }
}

#[railbus::test]
async fn closing_does_not_wait_for_a_batch_to_fill() {
    for store in Store::all() {
        let (bus, seen) = (store.bus().await, Seen::default());
        let all = seen.clone();
        let begun = Arc::new(Semaphore::new(0));
        let begins = Arc::clone(&begun);
        // As deliveries begin, a layer tells: the second of the two counts.
        struct Tells(Arc<Semaphore>);
        #[async_trait::async_trait]
        impl railbus::middleware::Middleware for Tells {
            async fn handle(
                &self,
                delivery: &railbus::delivery::Delivery,
                next: railbus::middleware::Next<'_>,
            ) -> Outcome {
                self.0.add_permits(1);
                next.run(delivery).await
            }
        }
        let on = bus.on("number").group("g").layer(Tells(begins)).batch(50, NEVER);
        on.run(async move |batch: Batch<u32>| all.add(&batch)).await.unwrap();
        publish(&bus, 0..2).await;
        drop(begun.acquire_many(2).await.unwrap());
        bus.close().await.unwrap();
        assert_eq!(seen.sorted(), [(0, 1), (1, 1)], "{store}");
    }
}

#[railbus::test]
async fn at_the_deadline_a_batch_is_dropped_and_its_events_are_given_back() {
    for store in Store::all() {
        let (bus, (begins, mut begun)) = (store.bus().await, mpsc::unbounded_channel());
        let dropped = Arc::new(());
        let kept = Arc::clone(&dropped);
        let handler = async move |batch: Batch<u32>| {
            let _kept = kept;
            begins.send(batch.len()).unwrap();
            std::future::pending::<()>().await;
        };
        bus.on("number").group("g").batch(3, NEVER).run(handler).await.unwrap();
        publish(&bus, 0..3).await;
        assert_eq!(begun.recv().await, Some(3), "{store}");
        bus.close_within(Duration::from_millis(50)).await.unwrap();
        let again = store.bus().await;
        let seen = Seen::default();
        let all = seen.clone();
        let on = again.on("number").group("g").batch(3, NEVER);
        on.run(async move |batch: Batch<u32>| all.add(&batch)).await.unwrap();
        again.idle().await.unwrap();
        assert_eq!(seen.sorted(), [(0, 1), (1, 1), (2, 1)], "{store}");
        // The bus and the call: both are gone.
        drop(bus);
        assert_eq!(Arc::strong_count(&dropped), 1, "the handler runs on {store}");
    }
}

#[railbus::test]
async fn who_gives_up_an_item_leaves_the_batch_to_the_others() {
    for store in Store::all() {
        let (bus, seen) = (store.bus().await, Seen::default());
        let all = seen.clone();
        let timeout = Timeout::new(Duration::from_millis(50));
        let on = bus.on("number").group("g").retry(Retry::attempts(1)).layer(timeout);
        let on = on.batch(2, NEVER);
        on.run(async move |batch: Batch<u32>| all.add(&batch)).await.unwrap();
        publish(&bus, 0..1).await;
        bus.idle().await.unwrap();
        assert_eq!(letters(&bus).await.len(), 1, "{store}");
        publish(&bus, 1..3).await;
        bus.idle().await.unwrap();
        // The one that timed out is in it, or the batch would be one of a single item.
        assert_eq!(seen.sorted().iter().filter(|(n, _)| *n > 0).count(), 1, "{store}");
        assert!(letters(&bus).await.len() == 2, "{store}");
    }
}

#[railbus::test]
async fn the_events_themselves_can_be_taken_and_what_is_published_says_what_caused_it() {
    for store in Store::all() {
        let (bus, told) = (store.bus().await, Recorder::new());
        let handler = async |batch: Batch<Event>, bus: Bus| {
            assert_eq!(context::current().unwrap().event_type(), "batch");
            for event in &batch {
                assert_eq!(event.id(), event.event().id());
                event
                    .within(bus.publish(Event::new("told").payload(event.id().to_owned())))
                    .await?;
            }
            bus.publish(Event::new("all told").payload(batch.len())).await?;
            railbus::done()
        };
        bus.on(railbus::topic("*told")).run(told.clone()).await.unwrap();
        bus.on("number").group("g").batch(2, NEVER).run(handler).await.unwrap();
        let scope = context::scope("request").id("r-1");
        scope.run(publish(&bus, 0..2)).await;
        bus.idle().await.unwrap();
        let events = told.wait_for(3).await;
        for event in &events {
            assert_eq!(event.correlation_id(), "r-1", "{store}");
        }
        for event in &events[..2] {
            assert_eq!(event.causation_id(), Some(&*event.payload::<String>().unwrap()), "{store}");
        }
        let error =
            bus.on("number").group("g").batch(2, NEVER).run(async |_: Batch<u32>, _: Event| {});
        assert_eq!(error.await.unwrap_err().kind(), ErrorKind::Config);
    }
}
