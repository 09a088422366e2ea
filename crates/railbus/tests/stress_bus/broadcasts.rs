//! Rounds of broadcasts.

use super::{
    check::{Totals, check},
    history::What,
    on_threads, plan, quiet_panics,
    random::Random,
    scene::Scene,
    wait_until,
};
use railbus::Bus;
use std::{
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const CLOSE: Duration = Duration::from_secs(60);

/// How often one tries to publish on a bus that is closed.
const TRIES_CLOSED: usize = 16;

#[test]
fn whatever_happens_at_once_each_event_goes_where_it_must_and_nowhere_else() {
    quiet_panics();
    let (seed, rounds) = plan(6, 160);
    let mut all = Totals::default();
    for round in 0..rounds {
        let totals = run(seed, round);
        all.published += totals.published;
        all.refused += totals.refused;
        all.again += totals.again;
        all.failed += totals.failed;
        all.opened += totals.opened;
        all.cancelled += totals.cancelled;
        all.must += totals.must;
        all.must_not += totals.must_not;
    }
    eprintln!("{all:?}");
    let least = [all.published, all.refused, all.again, all.failed, all.opened, all.cancelled];
    assert!(least.iter().all(|n| *n >= rounds), "not everything happened: {all:?}");
    assert!(all.must > all.published && all.must_not > all.published, "{all:?}");
}

fn run(seed: u64, round: u64) -> Totals {
    let mut random = Random::of(&[seed, round]);
    // Who drops a publish in the middle leaves counts that nobody can foresee.
    let rude = round % 3 == 2;
    let scene = Scene::new(Bus::new().state(()), seed ^ round);
    on_threads(act(Arc::clone(&scene), &mut random, rude));
    let records = scene.log.records();
    let (wrong, totals) = check(&records);
    assert!(wrong.is_empty(), "seed {seed}, round {round}: {}\n{wrong:#?}", wrong.len());
    if !rude {
        counts_add_up(&scene.bus, &totals);
    }
    scene.forget_guests();
    wait_until("no handler is left", || Arc::strong_count(&scene.alive) == 1);
    assert_eq!(Arc::strong_count(&scene), 1, "something holds what handlers held");
    totals
}

fn counts_add_up(bus: &Bus, totals: &Totals) {
    let counters = bus.counters();
    assert_eq!(counters.published.get(), totals.published);
    assert_eq!(counters.delivered.get(), totals.wanted);
    assert_eq!(counters.succeeded.get(), totals.done);
    assert_eq!(counters.retried.get(), totals.again);
    assert_eq!(counters.failed.get(), totals.failed);
    let events = &counters.broadcasts;
    let ended = [&events.succeeded, &events.failed, &events.unmatched];
    assert_eq!(ended.iter().map(|c| c.get()).sum::<u64>(), totals.published);
}

/// All who act, until the bus is closed and they have noticed.
async fn act(scene: Arc<Scene>, random: &mut Random, rude: bool) {
    residents(&scene, random).await;
    let (mut tasks, mut threads) = (JoinSet::new(), Vec::new());
    for _ in 0..3 {
        let (scene, random) = (Arc::clone(&scene), Random::of(&[random.next()]));
        tasks.spawn(publisher(scene, random, rude));
    }
    for _ in 0..2 {
        let (emits, seed) = (Arc::clone(&scene), random.next());
        threads.push(std::thread::spawn(move || emitter(&emits, Random::of(&[seed]))));
        tasks.spawn(host(Arc::clone(&scene), Random::of(&[random.next()])));
    }
    let least = 500 + random.below(1500) as u64;
    while scene.published.load(Relaxed) < least {
        tokio::task::yield_now().await;
    }
    close(&scene, random).await;
    scene.over.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Opens, all at once, those that stay: the checker knows that they must get everything.
async fn residents(scene: &Arc<Scene>, random: &mut Random) {
    let plans: Vec<_> = (0..12).map(|_| scene.plan(random)).collect();
    let begun = scene.log.now();
    let (subs, openings): (Vec<_>, Vec<_>) = plans.iter().map(|plan| scene.opening(plan)).unzip();
    let open = scene.bus.open_all(openings).await.unwrap();
    for ((sub, plan), open) in subs.into_iter().zip(&plans).zip(&open) {
        scene.opened(begun, sub, plan, open, None);
    }
}

async fn publisher(scene: Arc<Scene>, mut random: Random, rude: bool) {
    let mut closed = 0;
    while closed < TRIES_CLOSED && !scene.is_over() {
        let (event, published) = scene.event(&mut random, 0, false);
        let publishing = scene.publishing(published, None);
        let patience = async {
            // Some drop it at one of the first points where it waits, if it waits at all.
            match rude && random.below(8) == 0 {
                true => yields(random.below(3)).await,
                false => std::future::pending().await,
            }
        };
        closed += tokio::select! {
            biased;
            result = scene.bus.publish(event) => usize::from(publishing.came(&result)),
            () = patience => 0,
        };
        yields(random.below(8) / 7).await;
    }
}

/// Publishes on a thread that knows of no runtime.
fn emitter(scene: &Arc<Scene>, mut random: Random) {
    let mut closed = 0;
    while closed < TRIES_CLOSED && !scene.is_over() {
        let (event, published) = scene.event(&mut random, 0, true);
        let publishing = scene.publishing(published, None);
        closed += usize::from(publishing.came(&scene.bus.emit(event)));
    }
}

/// Opens and cancels.
async fn host(scene: Arc<Scene>, mut random: Random) {
    while !scene.is_over() {
        if scene.guests() < 24 && random.below(2) == 0 {
            scene.open_guest(&mut random, None);
        } else {
            scene.cancel_guest(&mut random, None);
        }
        yields(random.below(8)).await;
    }
}

async fn yields(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Closes the bus, in one of all ways.
async fn close(scene: &Arc<Scene>, random: &mut Random) {
    let begun = scene.log.now();
    match random.below(3) {
        0 => {
            let draining = scene.bus.drain();
            scene.log.note(begun, What::Drained);
            draining.finish(CLOSE).await.unwrap();
        }
        1 => {
            let other = scene.bus.clone();
            let other = tokio::spawn(async move { other.close_within(CLOSE).await });
            scene.bus.close_within(CLOSE).await.unwrap();
            scene.log.note(begun, What::Closed);
            other.await.unwrap().unwrap();
        }
        _ => scene.bus.close_within(CLOSE).await.unwrap(),
    }
    scene.log.note(begun, What::Closed);
}
