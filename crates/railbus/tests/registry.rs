//! A cache that events keep true: what it loads, keeps and forgets, and for whom.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "everywhere/faulty.rs"]
mod faulty;
#[path = "everywhere/places.rs"]
mod places;
#[path = "registry/loaders.rs"]
mod loaders;
#[path = "registry/processes.rs"]
mod processes;
#[path = "registry/told.rs"]
mod told;

use faulty::Faulty;
use futures_util::FutureExt;
use railbus::{
    Bus, CachedRegistry, ErrorKind, Event, Result, State, Type, Value, bus::Registering, json,
};
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::yield_now,
};

/// Where the values come from: counts who asks, and answers when it is let.
#[derive(Clone)]
struct Origin(Arc<Inner>);

struct Inner {
    loads: Mutex<Vec<String>>,
    version: AtomicUsize,
    room: Semaphore,
    began: Notify,
}

impl Origin {
    fn new() -> Self {
        Self::with(Semaphore::MAX_PERMITS)
    }

    /// Answers nobody until room is added.
    fn held() -> Self {
        Self::with(0)
    }

    fn with(room: usize) -> Self {
        let (loads, version, room, began) =
            (Mutex::default(), AtomicUsize::new(1), Semaphore::new(room), Notify::new());
        Self(Arc::new(Inner { loads, version, room, began }))
    }

    async fn load(self, id: String) -> io::Result<usize> {
        let version = self.0.version.load(SeqCst);
        self.0.loads.lock().unwrap().push(id.clone());
        self.0.began.notify_one();
        self.0.room.acquire().await.unwrap().forget();
        match &*id {
            "missing" => Err(io::Error::other("there is no such bot")),
            "panics" => panic!("a loader that panics"),
            _ => Ok(version),
        }
    }

    fn registry(&self) -> Registering<usize> {
        let origin = self.clone();
        CachedRegistry::new(async move |id| origin.load(id).await)
    }

    fn change(&self) {
        self.0.version.fetch_add(1, SeqCst);
    }

    fn loads(&self) -> usize {
        self.0.loads.lock().unwrap().len()
    }
}

/// The document's own publish.
async fn on_config_change(bus: &Bus, bot_id: &str, config: &Value) -> Result<()> {
    let payload = json!({ "bot_id": bot_id, "config": config });
    bus.publish(Event::new(Type::UPDATED).topic("registry:bots").payload(payload)).await.map(drop)
}

#[railbus::test]
async fn a_value_is_loaded_once_and_again_after_each_change_that_is_told() {
    for place in places::all() {
        let (bus, origin) = (Bus::open(&place.url).await.unwrap(), Origin::new());
        let bots = origin.registry().open(&bus).await.unwrap();
        for _ in 0..3 {
            assert_eq!(*bots.get("b1").await.unwrap(), 1);
        }
        assert_eq!(*bots.get("b2").await.unwrap(), 1);
        assert_eq!((origin.loads(), bots.len()), (2, 2));
        origin.change();
        for (told, version) in [(1, 2), (2, 3), (3, 4)] {
            match told {
                1 => bots.publish_updated("b1").await.unwrap(),
                2 => bots.publish_deactivated("b1").await.unwrap(),
                _ => bots.publish_deleted("b1").await.unwrap(),
            }
            bus.idle().await.unwrap();
            assert_eq!(*bots.get("b1").await.unwrap(), version, "{}", place.url);
            assert_eq!(*bots.get("b2").await.unwrap(), 1, "the other one did not change");
            origin.change();
        }
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn the_documents_own_publish_invalidates_where_it_is_told_its_topic_and_key() {
    for place in places::all() {
        let (bus, origin) = (Bus::open(&place.url).await.unwrap(), Origin::new());
        let bots = origin.registry().topic("registry:bots").key("bot_id").open(&bus).await.unwrap();
        // As its code has it: on another topic, under another key, so that nothing is told.
        let instances = origin.registry().open(&bus).await.unwrap();
        assert_eq!((*bots.get("b1").await.unwrap(), *instances.get("b1").await.unwrap()), (1, 1));
        origin.change();
        on_config_change(&bus, "b1", &json!({ "model": "x" })).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!(*bots.get("b1").await.unwrap(), 2, "{}", place.url);
        assert_eq!(*instances.get("b1").await.unwrap(), 1);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn only_the_types_that_tell_of_a_change_invalidate() {
    let (bus, origin) = (Bus::new(), Origin::new());
    let usual = origin.registry().topic("t").open(&bus).await.unwrap();
    let also = origin.registry().topic("t").types([Type::ACTIVATED]).open(&bus).await.unwrap();
    let all = origin.registry().topic("t").types::<String>([]).open(&bus).await.unwrap();
    for (event_type, kept) in
        [(Type::UPDATED, [0, 1, 0]), (Type::ACTIVATED, [1, 0, 0]), (Type::CREATED, [1, 1, 0])]
    {
        for registry in [&usual, &also, &all] {
            registry.get("b1").await.unwrap();
        }
        let payload = json!({ "instance_id": "b1" });
        bus.publish(Event::new(event_type).topic("t").payload(payload)).await.unwrap();
        assert_eq!([usual.len(), also.len(), all.len()], kept, "{event_type}");
    }
}

#[railbus::test]
async fn a_change_that_names_no_id_forgets_all_and_numbers_are_ids_too() {
    let (bus, origin) = (Bus::new(), Origin::new());
    let bots = origin.registry().topic("t").key("bot.id").open(&bus).await.unwrap();
    let change = async |payload: Value| {
        bots.get("7").await.unwrap();
        bots.get("8").await.unwrap();
        bus.publish(Event::new(Type::UPDATED).topic("t").payload(payload)).await.unwrap();
        bots.len()
    };
    assert_eq!(change(json!({ "bot": { "id": 7 } })).await, 1);
    assert_eq!(change(json!({ "instance_id": "7" })).await, 0);
    assert_eq!(change(json!({ "bot": { "id": null } })).await, 0);
    assert_eq!(change(json!([1])).await, 0);
}

#[railbus::test]
async fn who_handles_the_change_sees_the_new_value() {
    let (bus, origin) = (Bus::new(), Origin::new());
    let bots = origin.registry().open(&bus).await.unwrap();
    let bus = bus.state(bots.clone());
    let look = async |bots: State<CachedRegistry<usize>>| {
        assert_eq!(*bots.get("b1").await.unwrap(), 2);
    };
    bus.on(Type::UPDATED).priority(-1_000_000).run(look).await.unwrap();
    bots.get("b1").await.unwrap();
    origin.change();
    let payload = json!({ "instance_id": "b1" });
    let changed = Event::new(Type::UPDATED).topic("registry:instances").payload(payload);
    assert!(bus.publish(changed).await.unwrap().failures.is_empty());
}

#[railbus::test]
async fn many_who_ask_for_one_id_make_one_load_and_each_id_has_its_own() {
    let (bus, origin) = (Bus::new(), Origin::held());
    let bots = origin.registry().open(&bus).await.unwrap();
    let ask = |id: String| {
        let bots = bots.clone();
        tokio::spawn(async move { bots.get(&id).await.map(|value| *value) })
    };
    let asking: Vec<_> = (0..100).map(|n| ask(format!("b{}", n % 2))).collect();
    while origin.loads() < 2 {
        yield_now().await;
    }
    origin.0.room.add_permits(2);
    for asked in asking {
        assert_eq!(asked.await.unwrap().unwrap(), 1);
    }
    assert_eq!(origin.loads(), 2);
}

#[railbus::test]
async fn a_load_goes_on_as_long_as_anybody_waits_for_it() {
    let (bus, origin) = (Bus::new(), Origin::held());
    let bots = origin.registry().open(&bus).await.unwrap();
    let ask = || {
        let bots = bots.clone();
        tokio::spawn(async move { bots.get("b1").await.map(|value| *value) })
    };
    let (first, second) = (ask(), ask());
    origin.0.began.notified().await;
    first.abort();
    assert!(first.await.is_err());
    origin.0.room.add_permits(1);
    assert_eq!((second.await.unwrap().unwrap(), origin.loads()), (1, 1));

    // One that nobody waits for any more is gone: who asks next begins another.
    bots.clear();
    let third = ask();
    origin.0.began.notified().await;
    third.abort();
    assert!(third.await.is_err());
    origin.0.room.add_permits(1);
    assert_eq!((*bots.get("b1").await.unwrap(), origin.loads()), (1, 3));
}

#[railbus::test]
async fn a_value_whose_load_was_overtaken_by_a_change_is_not_kept() {
    for (told, clear) in [("b1", false), ("other", true)] {
        let (bus, origin) = (Bus::new(), Origin::held());
        let bots = origin.registry().open(&bus).await.unwrap();
        let asking = bots.clone();
        let asking = tokio::spawn(async move { asking.get("b1").await.map(|value| *value) });
        origin.0.began.notified().await;
        // It has read the old value; the change comes before it is through.
        origin.change();
        match clear {
            true => bots.clear(),
            false => bots.publish_updated(told).await.unwrap(),
        }
        let next = bots.clone();
        let next = tokio::spawn(async move { next.get("b1").await.map(|value| *value) });
        origin.0.began.notified().await;
        origin.0.room.add_permits(2);
        assert_eq!(asking.await.unwrap().unwrap(), 1, "who asked before the change");
        assert_eq!(next.await.unwrap().unwrap(), 2, "who asked after it");
        assert_eq!((*bots.get("b1").await.unwrap(), origin.loads()), (2, 2), "what is kept");
    }
}

#[railbus::test]
async fn what_the_loader_says_no_to_is_told_to_all_who_wait_and_not_kept() {
    for id in ["missing", "panics"] {
        let (bus, origin) = (Bus::new(), Origin::held());
        let bots = origin.registry().open(&bus).await.unwrap();
        let ask = || {
            let bots = bots.clone();
            tokio::spawn(async move { bots.get(id).await.map(drop) })
        };
        let asking = [ask(), ask()];
        origin.0.began.notified().await;
        yield_now().await;
        origin.0.room.add_permits(1);
        for asked in asking {
            let error = asked.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Handler);
            assert!(error.to_string().contains(id), "{error}");
        }
        assert_eq!((origin.loads(), bots.len()), (1, 0));
        origin.0.room.add_permits(1);
        assert!(bots.get(id).await.is_err());
        assert_eq!(origin.loads(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_is_served_for_its_time_to_live_counted_from_the_beginning_of_its_load() {
    let (bus, origin) = (Bus::new(), Origin::held());
    let bots = origin.registry().ttl(Duration::from_secs(60)).open(&bus).await.unwrap();
    let asking = bots.clone();
    let asking = tokio::spawn(async move { asking.get("b1").await.map(|value| *value) });
    origin.0.began.notified().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    origin.0.room.add_permits(9);
    asking.await.unwrap().unwrap();
    origin.change();
    tokio::time::advance(Duration::from_secs(39)).await;
    assert_eq!(*bots.get("b1").await.unwrap(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!((*bots.get("b1").await.unwrap(), origin.loads()), (2, 2));
}

#[railbus::test]
async fn of_more_values_than_are_kept_the_one_that_was_not_asked_for_the_longest_goes() {
    let (bus, origin) = (Bus::new(), Origin::new());
    let bots = origin.registry().max_size(3).open(&bus).await.unwrap();
    for id in ["a", "b", "c", "a", "d"] {
        bots.get(id).await.unwrap();
        assert!(bots.len() <= 3);
    }
    origin.0.loads.lock().unwrap().clear();
    for id in ["a", "c", "d", "b"] {
        bots.get(id).await.unwrap();
    }
    assert_eq!(*origin.0.loads.lock().unwrap(), ["b"]);
    for n in 0..10_000 {
        bots.get(&format!("{n}")).await.unwrap();
    }
    assert_eq!(bots.len(), 3);
}

#[railbus::test]
async fn after_a_gap_nothing_is_served_that_was_kept_or_loaded_before() {
    let ((faulty, faults), origin) = (Faulty::new(), Origin::new());
    let (bus, others) = (Bus::over(faulty.connect()), Bus::over(faulty));
    let bots = origin.registry().open(&bus).await.unwrap();
    assert_eq!(*bots.get("b1").await.unwrap(), 1);
    faults.cut();
    origin.change();
    // Missed here; nobody can know yet.
    let change = json!({ "instance_id": "b1" });
    let change = Event::new(Type::UPDATED).topic("registry:instances").payload(change);
    others.publish(change).await.unwrap();
    assert_eq!((*bots.get("b1").await.unwrap(), bus.gaps()), (1, 0));
    faults.mend();
    while bus.gaps() == 0 {
        yield_now().await;
    }
    assert_eq!(*bots.get("b1").await.unwrap(), 2);

    // Not even one whose load was under way.
    origin.0.room.forget_permits(Semaphore::MAX_PERMITS);
    bots.clear();
    let asking = bots.clone();
    while origin.0.began.notified().now_or_never().is_some() {}
    let asking = tokio::spawn(async move { asking.get("b1").await.map(|value| *value) });
    origin.0.began.notified().await;
    faults.cut();
    origin.change();
    faults.mend();
    while bus.gaps() == 1 {
        yield_now().await;
    }
    origin.0.room.add_permits(9);
    asking.await.unwrap().unwrap();
    assert_eq!(*bots.get("b1").await.unwrap(), 3);
}

#[railbus::test]
async fn once_changes_are_not_heard_of_any_more_it_loads_each_time() {
    for place in places::all() {
        let (bus, origin) = (Bus::open(&place.url).await.unwrap(), Origin::new());
        let bots = origin.registry().open(&bus).await.unwrap();
        bots.get("b1").await.unwrap();
        bus.close().await.unwrap();
        origin.change();
        assert_eq!(*bots.get("b1").await.unwrap(), 2);
        origin.change();
        assert_eq!(*bots.get("b1").await.unwrap(), 3, "{}", place.url);
        assert_eq!(bots.publish_updated("b1").await.unwrap_err().kind(), ErrorKind::Closed);
        drop(bus);
        assert_eq!(bots.publish_updated("b1").await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[railbus::test]
async fn a_registry_keeps_no_bus_and_a_bus_no_registry() {
    let (bus, origin) = (Bus::new(), Origin::new());
    let bots = origin.registry().open(&bus).await.unwrap();
    let also = bots.clone();
    drop(bots);
    let payload = || json!({ "instance_id": "b1" });
    let change = || Event::new(Type::UPDATED).topic("registry:instances").payload(payload());
    assert_eq!(bus.publish(change()).await.unwrap().matched, 1);
    drop(also);
    assert_eq!(bus.publish(change()).await.unwrap().matched, 0);
    assert_eq!(Arc::strong_count(&origin.0), 1, "its loader is gone with it");

    let bots = origin.registry().open(&bus).await.unwrap();
    let bus = bus.state(bots.clone());
    drop((bus, bots));
    assert_eq!(Arc::strong_count(&origin.0), 1, "though it was the state of its bus");
}

#[railbus::test]
async fn a_registry_that_can_not_work_is_refused() {
    let (bus, origin) = (Bus::new(), Origin::new());
    for registering in [
        origin.registry().topic("registry:*"),
        origin.registry().key(""),
        origin.registry().ttl(Duration::ZERO),
        origin.registry().max_size(0),
    ] {
        let error = registering.open(&bus).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.advice().is_some());
    }
}
