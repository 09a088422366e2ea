//! Loaders that ask registries themselves.

use railbus::{BoxError, Bus, CachedRegistry, ErrorKind, Result};
use std::{
    error::Error as StdError,
    sync::{Arc, OnceLock},
    time::Duration,
};

type Asked = Arc<OnceLock<CachedRegistry<String>>>;

/// Opens a registry whose loader asks another one for the ids after a comma, if there are any.
async fn registry(bus: &Bus, asks: Asked) -> CachedRegistry<String> {
    let load = async move |id: String| -> std::result::Result<String, BoxError> {
        let Some((_, next)) = id.split_once(',') else { return Ok(id) };
        // So that loads of several tasks meet.
        tokio::task::yield_now().await;
        let next = if next == "itself" { &id } else { next };
        Ok(format!("{id} after {}", asks.get().unwrap().get(next).await?))
    };
    CachedRegistry::new(load).open(bus).await.unwrap()
}

/// Awaits what must end, and returns what it said with all causes.
async fn refused(loading: impl Future<Output = Result<Arc<String>>>) -> String {
    let loading = tokio::time::timeout(Duration::from_secs(60), loading);
    let error = loading.await.expect("it waits for itself").unwrap_err();
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push(error.to_string());
        let known = error.downcast_ref::<railbus::Error>();
        said.extend(known.filter(|e| e.kind() == ErrorKind::Config).map(|_| "(config)".into()));
        cause = error.source();
    }
    assert!(said.contains(&"(config)".to_owned()), "{said:?}");
    said.join(": ")
}

const WHY: &str = "load: the loader that asks would wait for the value that it loads";

#[railbus::test]
async fn a_loader_may_ask_for_other_ids_but_not_for_the_one_that_it_loads() {
    let (bus, asks) = (Bus::new(), Asked::default());
    let names = registry(&bus, Arc::clone(&asks)).await;
    asks.set(names.clone()).ok().unwrap();
    assert_eq!(*names.get("a,b,c").await.unwrap(), "a,b,c after b,c after c");
    let said = refused(names.get("x,itself")).await;
    assert!(said.contains(WHY), "{said}");
    // It is not known for ever.
    assert_eq!(*names.get("c").await.unwrap(), "c");
    bus.close().await.unwrap();
    // Without a bus nothing is kept, and each asks anew.
    assert_eq!(*names.get("a,b").await.unwrap(), "a,b after b");
    let said = refused(names.get("x,itself")).await;
    assert!(said.contains(WHY), "{said}");
}

#[railbus::test]
async fn two_loaders_that_wait_for_each_other_are_told_so_whoever_asked_first() {
    let bus = Bus::new();
    let (asks_left, asks_right) = (Asked::default(), Asked::default());
    let left = registry(&bus, Arc::clone(&asks_right)).await;
    let right = registry(&bus, Arc::clone(&asks_left)).await;
    asks_left.set(left.clone()).ok().unwrap();
    asks_right.set(right.clone()).ok().unwrap();
    for _ in 0..2 {
        let (one, other) = (refused(left.get("x,itself")), refused(right.get("x,itself")));
        let (one, other) = tokio::join!(one, other);
        assert!(one.contains(WHY) && other.contains(WHY), "{one}\n{other}");
    }
    // The same id in another registry is another value.
    assert_eq!(*left.get("x,x").await.unwrap(), "x,x after x");
}
