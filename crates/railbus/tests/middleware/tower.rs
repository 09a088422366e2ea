//! Layers of tower around handlers: what they refuse, drop or repeat is an outcome.

use railbus::{
    Bus, Event, Retry,
    backend::LetterFilter,
    delivery::Outcome,
    middlewares::{Request, Tower},
    testing::Recorder,
};
use std::{
    future::{pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tower::{
    ServiceBuilder,
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[railbus::test]
async fn a_timeout_of_tower_fails_the_try_and_drops_the_handler() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let (bus, dropped) = (Bus::open("memory:").await.unwrap(), Arc::new(AtomicUsize::new(0)));
    let twice = Retry::attempts(2).backoff(millis(1));
    let on = bus.on("tick").group("g").retry(twice);
    let on = on.layer(Tower::new(TimeoutLayer::new(millis(5))));
    let count = Arc::clone(&dropped);
    on.run(async move |_: Event| {
        let _dropped = Dropped(count);
        pending::<()>().await;
    })
    .await
    .unwrap();
    bus.publish(Event::new("tick")).await.unwrap();
    bus.idle().await.unwrap();
    let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts), (1, 2));
    assert!(letters[0].reason.contains("timed out"), "{}", letters[0].reason);
    assert_eq!(dropped.load(SeqCst), 2);
}

#[railbus::test]
async fn a_limit_of_tower_is_that_of_all_deliveries() {
    let (bus, most) = (Bus::open("memory:").await.unwrap(), Arc::new(Mutex::new((0, 0))));
    let on = bus.on("tick").group("g").layer(Tower::new(ConcurrencyLimitLayer::new(3)));
    let count = Arc::clone(&most);
    on.run(async move |_: Event| {
        let add = |add: i32| {
            let mut count = count.lock().unwrap();
            count.0 += add;
            count.1 = count.1.max(count.0);
        };
        add(1);
        // sleep: long enough for others to run beside it, if they may.
        tokio::time::sleep(millis(2)).await;
        add(-1);
    })
    .await
    .unwrap();
    for _ in 0..20 {
        bus.publish(Event::new("tick")).await.unwrap();
    }
    bus.idle().await.unwrap();
    assert_eq!((*most.lock().unwrap(), bus.counters().succeeded.get()), ((0, 3), 20));
}

#[railbus::test]
async fn what_is_shed_is_a_failure_or_what_is_made_of_it() {
    for asks_again in [false, true] {
        let (bus, go) =
            (Bus::open("memory:").await.unwrap(), Arc::new(tokio::sync::Semaphore::new(0)));
        let layer = ServiceBuilder::new()
            .layer(LoadShedLayer::new())
            .layer(ConcurrencyLimitLayer::new(1))
            .into_inner();
        let mut tower = Tower::new(layer);
        if asks_again {
            tower = tower.on_error(|error| match error.is::<Overloaded>() {
                true => Outcome::Retry(millis(1)),
                false => Outcome::Failed(error),
            });
        }
        // What is a failure is not tried again.
        let (wait, retry) = (Arc::clone(&go), Retry::attempts(10_000).on_kind("no such kind"));
        let on = bus.on("tick").group("g").retry(retry).layer(tower);
        on.run(async move |_: Event| wait.acquire().await.unwrap().forget()).await.unwrap();
        bus.publish(Event::new("tick")).await.unwrap();
        bus.publish(Event::new("tick")).await.unwrap();
        let counters = bus.counters();
        while counters.retried.get() + counters.dead_lettered.get() == 0 {
            tokio::task::yield_now().await;
        }
        go.add_permits(2);
        bus.idle().await.unwrap();
        let (dead, done) = if asks_again { (0, 2) } else { (1, 1) };
        assert_eq!((counters.dead_lettered.get(), counters.succeeded.get()), (dead, done));
    }
}

#[railbus::test]
async fn a_rate_and_a_buffer_with_a_task_of_its_own_work_too() {
    let (bus, seen) = (Bus::open("memory:").await.unwrap(), Recorder::new());
    // A RateLimit is not Clone, and a Buffer calls it from its own task.
    let layer = ServiceBuilder::new().buffer(4).rate_limit(2, millis(20)).into_inner();
    let on = bus.on("tick").group("g").layer(Tower::new(layer));
    on.run(seen.clone()).await.unwrap();
    let bare = bus.on("tick").group("bare");
    bare.layer(Tower::new(ServiceBuilder::new().rate_limit(2, millis(20)).into_inner()))
        .run(seen.clone())
        .await
        .unwrap();
    for _ in 0..6 {
        bus.publish(Event::new("tick")).await.unwrap();
    }
    bus.idle().await.unwrap();
    assert_eq!((seen.len(), bus.counters().succeeded.get()), (12, 12));
}

/// Tries an error again, so often.
#[derive(Clone)]
struct Again(u32);

impl Policy<Request, Outcome, railbus::BoxError> for Again {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        request: &mut Request,
        result: &mut Result<Outcome, railbus::BoxError>,
    ) -> Option<Self::Future> {
        assert_eq!(request.delivery().attempt(), 1);
        self.0 = self.0.checked_sub(u32::from(result.is_err()))?;
        result.is_err().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}

#[railbus::test]
async fn a_layer_sees_the_errors_of_the_handler_and_may_call_it_again() {
    let (bus, tries) = (Bus::new(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&tries);
    let on = bus.on("tick").layer(Tower::new(RetryLayer::new(Again(5))));
    on.run(async move |_: Event| match count.fetch_add(1, SeqCst) {
        0 => Err("no"),
        1 => panic!("ouch"),
        _ => Ok(()),
    })
    .await
    .unwrap();
    assert!(bus.publish(Event::new("tick")).await.unwrap().failures.is_empty());
    assert_eq!(tries.load(SeqCst), 3);
}

#[railbus::test]
async fn a_layer_that_panics_fails_the_try_and_the_next_one_goes_on() {
    let (bus, calls) = (Bus::new(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&calls);
    let layer = tower::util::MapRequestLayer::new(move |request: Request| {
        assert!(count.fetch_add(1, SeqCst) > 0, "the first one panics");
        request
    });
    let on = bus.on("tick").layer(Tower::new(layer));
    on.run(async |_: Event| {}).await.unwrap();
    let first = bus.publish(Event::new("tick")).await.unwrap();
    assert!(first.failures[0].error.contains("the first one panics"), "{first:?}");
    assert!(bus.publish(Event::new("tick")).await.unwrap().failures.is_empty());
}
