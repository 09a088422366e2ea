//! Rounds of groups in memory, over two connections.

use super::{
    on_threads, oracle::Oracle, plan, quiet_panics, random::Random, scene::ON_PURPOSE, wait_until,
};
use railbus::{
    Bus, ErrorKind, Event, Retry, Subscription,
    backend::{Backend, LetterFilter},
    backends::{self, memory::Memory},
    bus::Opening,
    delivery::{Delivery, Lease, Nack},
    options::Options,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};
use tokio::task::JoinSet;

const TRIES: u32 = 3;

/// The groups, each of which wants all events: one that stays, one whose members come and go on
/// both connections, and one that settles by hand.
const GROUPS: [&str; 3] = ["stays", "visited", "by-hand"];

/// The attempts of a subscription at an event, and whether each was done.
type Calls = HashMap<(&'static str, u64), Vec<(u32, bool)>>;

struct Scene {
    /// One for each connection.
    buses: Vec<Bus>,
    events: AtomicU64,
    /// What was accepted.
    published: Mutex<Vec<u64>>,
    calls: Mutex<Calls>,
    seed: u64,
    over: AtomicBool,
    alive: Arc<()>,
}

#[test]
fn each_event_is_settled_once_in_each_group_whoever_comes_and_goes() {
    quiet_panics();
    let (seed, rounds) = plan(4, 100);
    for round in 0..rounds {
        run(seed, round);
    }
}

fn run(seed: u64, round: u64) {
    let mut random = Random::of(&[seed, round]);
    let oracle = Oracle::new();
    // Every other time publishers have to wait for room, on one connection.
    let tight = random.below(2) == 0;
    // Every third round ends in the middle.
    let whole = round % 3 != 2;
    let context = format!("seed {seed}, round {round} of groups, tight {tight}");
    let scene = Mutex::new(None);
    on_threads(async {
        let made = Scene::new(tight, &oracle, seed ^ round).await;
        *scene.lock().unwrap() = Some(Arc::clone(&made));
        act(&made, &mut random, whole, &context).await;
    });
    let scene = scene.lock().unwrap().take().unwrap();
    oracle.check();
    verify(&scene, &oracle, whole, &context);
    wait_until("no handler is left", || Arc::strong_count(&scene.alive) == 1);
    assert_eq!(Arc::strong_count(&scene), 1, "something holds what handlers held");
}

impl Scene {
    async fn new(tight: bool, oracle: &Oracle, seed: u64) -> Arc<Self> {
        let backends: Vec<Arc<dyn Backend>> = match tight {
            true => {
                vec![backends::open(Options::parse("memory:?queue=32").unwrap()).await.unwrap()]
            }
            false => {
                let memory = Memory::default();
                vec![Arc::new(memory.connect()), Arc::new(memory)]
            }
        };
        let buses = backends.into_iter().map(|backend| Bus::over(oracle.watch(backend)));
        Arc::new(Self {
            buses: buses.collect(),
            events: AtomicU64::new(0),
            published: Mutex::default(),
            calls: Mutex::default(),
            seed,
            over: AtomicBool::new(false),
            alive: Arc::default(),
        })
    }

    fn bus(&self, n: usize) -> &Bus {
        &self.buses[n % self.buses.len()]
    }

    /// Publishes; false once the bus is closed.
    async fn publish(&self, bus: &Bus) -> bool {
        let number = self.events.fetch_add(1, Relaxed);
        match bus.publish(Event::new("a").id(number.to_string()).payload(0)).await {
            Ok(_) => {
                self.published.lock().unwrap().push(number);
                true
            }
            Err(error) => {
                let kinds = [ErrorKind::Closed, ErrorKind::Overloaded];
                assert!(kinds.contains(&error.kind()), "{error}");
                // Full, and nobody is there to make room: until somebody visits.
                tokio::task::yield_now().await;
                error.kind() != ErrorKind::Closed
            }
        }
    }

    fn note(&self, sub: &'static str, delivery: &Delivery, done: bool) {
        let event = delivery.event().id().parse().unwrap();
        let mut calls = self.calls.lock().unwrap();
        calls.entry((sub, event)).or_default().push((delivery.attempt(), done));
    }

    /// One that fails and panics now and then, publishes, and is tried again in place.
    fn opening(self: &Arc<Self>, on: usize, group: &str, sub: &'static str) -> Opening {
        let (scene, alive) = (Arc::clone(self), Arc::clone(&self.alive));
        let retry = Retry::attempts(TRIES).backoff_factor(Duration::from_millis(1));
        let on = self.bus(on).on("a").group(group).named(sub).retry(retry);
        on.run(move |bus: Bus, delivery: Delivery| {
            let (scene, alive) = (Arc::clone(&scene), Arc::clone(&alive));
            async move {
                let _alive = alive;
                let event: u64 = delivery.event().id().parse().unwrap();
                let name = sub.bytes().map(u64::from).sum();
                let mut random = Random::of(&[scene.seed, event, name, delivery.attempt().into()]);
                let act = random.below(16);
                if act == 0 {
                    scene.publish(&bus).await;
                }
                if random.below(2) == 0 {
                    tokio::task::yield_now().await;
                }
                scene.note(sub, &delivery, act > 2);
                match act {
                    1 => Err("it fails"),
                    2 => std::panic::panic_any(ON_PURPOSE),
                    0 => Err("it fails after it published"),
                    _ => Ok(()),
                }
            }
        })
    }

    /// One that settles by hand: well, badly or not at all.
    fn by_hand(self: &Arc<Self>) -> Opening {
        let (scene, alive) = (Arc::clone(self), Arc::clone(&self.alive));
        let retry = Retry::attempts(TRIES).backoff_factor(Duration::from_millis(1));
        let on = self.buses[0].on("a").group("by-hand").named("hand").retry(retry).manual();
        on.run(move |delivery: Delivery, lease: Lease| {
            let (scene, alive) = (Arc::clone(&scene), Arc::clone(&alive));
            async move {
                let _alive = alive;
                let event: u64 = delivery.event().id().parse().unwrap();
                let mut random = Random::of(&[scene.seed, event, delivery.attempt().into()]);
                let act = random.below(8);
                scene.note("hand", &delivery, act > 1);
                match act {
                    0 => drop(lease),
                    1 => {
                        drop(lease.nack(Nack { delay: Duration::ZERO, reason: "not now".into() }));
                    }
                    // By another task, before or after the handler returned.
                    2 => drop(tokio::spawn(async move { drop(lease.ack()) })),
                    // Waited for, while the handler still runs.
                    3 => drop(lease.ack().await),
                    _ => drop(lease.ack()),
                }
            }
        })
    }
}

async fn act(scene: &Arc<Scene>, random: &mut Random, whole: bool, context: &str) {
    let stays = ["one", "two"].map(|sub| scene.opening(0, "stays", sub));
    scene.buses[0].open_all(stays).await.unwrap();
    scene.by_hand().await.unwrap();
    for bus in &scene.buses {
        // A bus without groups of its own does not ask whether others have some.
        bus.on("never").group("by-hand").named("never").run(|_: &Event| {}).await.unwrap();
    }
    // Whoever publishes before a group exists, publishes nothing for it.
    let first = scene.opening(1, "visited", "guest").await.unwrap();
    let (mut publishers, mut hosts) = (JoinSet::new(), JoinSet::new());
    let events = 100 + random.below(300) as u64;
    for n in 0..3 {
        let scene = Arc::clone(scene);
        publishers.spawn(async move {
            while scene.events.load(Relaxed) < events && scene.publish(scene.bus(n)).await {}
        });
    }
    // The third leaves others of its group in the middle of a delivery.
    for (on, group, sub) in
        [(0, "visited", "guest"), (1, "visited", "guest"), (0, "stays", "third")]
    {
        let (scene, random) = (Arc::clone(scene), Random::of(&[random.next()]));
        hosts.spawn(host(scene, on, group, sub, random));
    }
    first.cancel();
    if whole {
        join(&mut publishers).await;
        scene.over.store(true, SeqCst);
        join(&mut hosts).await;
        scene.opening(0, "visited", "guest").await.unwrap();
        let idle = tokio::time::timeout(Duration::from_secs(60), scene.buses[0].idle()).await;
        let groups = scene.buses[0].keeper().unwrap().groups().await.unwrap();
        idle.unwrap_or_else(|_| panic!("{context}: never idle: {groups:#?}")).unwrap();
        done_or_dead(scene, context).await;
    } else {
        let some = random.below(events as usize) as u64;
        while scene.events.load(Relaxed) < some {
            tokio::task::yield_now().await;
        }
    }
    for bus in &scene.buses {
        bus.close_within(Duration::from_secs(60)).await.unwrap();
    }
    scene.over.store(true, SeqCst);
    join(&mut publishers).await;
    join(&mut hosts).await;
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// Opens and cancels a subscription of a group.
async fn host(
    scene: Arc<Scene>,
    on: usize,
    group: &'static str,
    sub: &'static str,
    mut random: Random,
) {
    let mut open: Option<Subscription> = None;
    while !scene.over.load(SeqCst) {
        match open.take() {
            Some(guest) if random.below(2) == 0 => guest.cancel(),
            Some(guest) => drop(guest.guard()),
            None => open = scene.opening(on, group, sub).await.ok(),
        }
        for _ in 0..random.below(20) {
            tokio::task::yield_now().await;
        }
    }
    if let Some(guest) = open {
        guest.cancel();
    }
}

/// Each subscription that stays is done with each event, once, or it is a dead letter of its.
async fn done_or_dead(scene: &Scene, context: &str) {
    let keeper = scene.buses[0].keeper().unwrap();
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
    let dead: HashSet<_> = letters
        .iter()
        .map(|letter| (letter.subscription.as_str(), letter.event_id.parse::<u64>().unwrap()))
        .collect();
    assert_eq!(dead.len(), letters.len(), "{context}: an event died twice");
    let calls = scene.calls.lock().unwrap();
    for event in &*scene.published.lock().unwrap() {
        for sub in ["one", "two", "hand", "guest"] {
            let calls = calls.get(&(sub, *event)).map_or(&[][..], |calls| calls);
            let done = calls.iter().filter(|(_, done)| *done).count();
            let died = usize::from(dead.contains(&(sub, *event)));
            assert_eq!(done + died, 1, "{context}: event {event} in {sub}: {calls:?}, {died} dead");
        }
    }
}

fn verify(scene: &Scene, oracle: &Oracle, whole: bool, context: &str) {
    let fates = oracle.fates();
    let published: HashSet<_> = scene.published.lock().unwrap().iter().copied().collect();
    assert!(!published.is_empty(), "{context}: there was no load");
    for ((group, event), fate) in &fates {
        let accepted = published.contains(&event.parse().unwrap());
        assert!(accepted, "{context}: event {event} was refused, and came to {group}");
        assert!(fate.acks <= 1, "{context}: event {event} in {group}: {fate:?}");
    }
    if whole {
        for event in &published {
            for group in GROUPS {
                let fate = fates.get(&(group.to_owned(), event.to_string()));
                let acks = fate.map_or(0, |fate| fate.acks);
                assert_eq!(acks, 1, "{context}: event {event} in {group}: {fate:?}");
            }
        }
    }
    for ((sub, event), calls) in &*scene.calls.lock().unwrap() {
        let grows = calls.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let done = calls.iter().position(|(_, done)| *done);
        let last = done.is_none_or(|done| done + 1 == calls.len());
        assert!(grows && last, "{context}: event {event} in {sub}: {calls:?}");
    }
}
