//! The order of layers, and what a layer may say when a subscription opens.

use railbus::{
    Bus, ErrorKind, Event, Result, Retry,
    delivery::{Delivery, Outcome},
    middleware::{Middleware, Next, Setup},
    middlewares::{RateLimit, Timeout},
    testing::Recorder,
};
use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Notes when it is passed, on the way in and on the way out.
struct Passed(&'static str, Arc<Mutex<Vec<String>>>);

#[async_trait::async_trait]
impl Middleware for Passed {
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
        self.1.lock().unwrap().push(format!("{} in {}", self.0, delivery.attempt()));
        let outcome = next.run(delivery).await;
        self.1.lock().unwrap().push(format!("{} out {outcome:?}", self.0));
        outcome
    }

    fn open(&self, setup: &mut Setup<'_>) -> Result<()> {
        let opened = (setup.group(), setup.name(), setup.is_manual(), setup.lease());
        self.1.lock().unwrap().push(format!("{} opens {opened:?}", self.0));
        Ok(())
    }
}

#[railbus::test]
async fn the_first_layer_is_outermost_and_the_policy_is_outside_of_all() {
    let (bus, log) = (Bus::open("memory:").await.unwrap(), Arc::new(Mutex::new(Vec::new())));
    let twice = Retry::attempts(2).backoff(Duration::from_millis(1));
    let on = bus.on("tick").group("g").named("n").layer(Passed("a", Arc::clone(&log)));
    // The policy's place is the same, wherever it is said.
    let on = on.layer(twice).layer(Passed("b", Arc::clone(&log)));
    let fails_once = async |delivery: Delivery| match delivery.attempt() {
        1 => Err("not now"),
        _ => Ok(()),
    };
    on.run(fails_once).await.unwrap();
    bus.publish(Event::new("tick")).await.unwrap();
    bus.idle().await.unwrap();
    let opened = "opens (Some(\"g\"), Some(\"n\"), false, 30s)";
    let expected = [
        &format!("a {opened}"),
        &format!("b {opened}"),
        "a in 1",
        "b in 1",
        "b out Failed(\"not now\")",
        "a out Failed(\"not now\")",
        "a in 2",
        "b in 2",
        "b out Done",
        "a out Done",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

#[railbus::test]
async fn a_retry_as_a_layer_sets_the_policy_and_twice_is_refused() {
    let bus = Bus::open("memory:").await.unwrap();
    let retry = || Retry::attempts(4).backoff(Duration::from_secs(2)).on_kind("timeout");
    let on = bus.on("a").group("g").layer(retry());
    let subscription = on.run(|_: &Event| {}).await.unwrap();
    let explained = subscription.explain().to_string();
    assert!(
        explained.contains("try 1, after 2s try 2, after 4s try 3, after 8s try 4"),
        "{explained}"
    );
    for twice in [
        bus.on("a").layer(retry()).layer(retry()),
        bus.on("a").retry(retry()).layer(retry()),
        bus.on("a").layer(retry()).retry(retry()),
        bus.on("a").retry(retry()).retry(retry()),
    ] {
        let refused = twice.run(|_: &Event| {}).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        assert_eq!(refused.to_string(), "subscribe: how often it is tried was set twice");
        assert!(refused.advice().unwrap().starts_with("keep one of"));
    }
}

#[railbus::test]
async fn the_errors_that_a_retry_chooses_are_those_of_all_layers() {
    let bus = Bus::open("memory:").await.unwrap();
    let chosen = |kind: &str| Retry::attempts(2).backoff(Duration::from_millis(1)).on_kind(kind);
    for (kind, tries) in [("timeout", 2), ("other", 1)] {
        let seen = Recorder::new();
        let on = bus.on(kind).group(kind).layer(chosen(kind)).layer(Noting(seen.clone()));
        let on = on.layer(Timeout::new(Duration::from_millis(1)));
        on.run(async |_: Event| pending::<()>().await).await.unwrap();
        bus.publish(Event::new(kind)).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!(seen.len(), tries, "{kind}");
    }
}

struct Noting(Recorder);

#[async_trait::async_trait]
impl Middleware for Noting {
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
        railbus::SyncHandler::handle(&self.0, delivery.event()).unwrap();
        next.run(delivery).await
    }
}

#[railbus::test]
async fn what_a_layer_refuses_ends_the_opening_and_leaves_nothing_behind() {
    let bus = Bus::new();
    for (rate, why) in [(0.0, "a rate of 0 events"), (f64::NAN, "a rate of NaN events")] {
        let on = bus.on("a").group("g").layer(RateLimit::per_second(rate));
        let refused = on.run(|_: &Event| {}).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
        assert_eq!(refused.kind(), ErrorKind::Config);
    }
    assert_eq!(bus.publish(Event::new("a")).await.unwrap().matched, 0);
    assert!(bus.keeper().unwrap().groups().await.unwrap().is_empty());
}

#[railbus::test]
async fn a_limit_bounds_what_runs_at_once_by_what_is_claimed() {
    let (bus, most) = (Bus::open("memory:").await.unwrap(), Arc::new(Mutex::new((0, 0))));
    let count = Arc::clone(&most);
    let on = bus.on("tick").group("user-service").limit(5);
    on.run(async move |_: Event| {
        let now = |add: i32| {
            let mut count = count.lock().unwrap();
            count.0 += add;
            count.1 = count.1.max(count.0);
        };
        now(1);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        now(-1);
    })
    .await
    .unwrap();
    for _ in 0..40 {
        bus.publish(Event::new("tick")).await.unwrap();
    }
    bus.idle().await.unwrap();
    let (now, most) = *most.lock().unwrap();
    assert_eq!(now, 0);
    assert!((1..=5).contains(&most), "{most}");
}
