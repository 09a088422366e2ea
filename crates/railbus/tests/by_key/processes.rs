//! Order by key over processes, some of which are killed in the middle.

use super::{
    keyed,
    stores::{Store, quick},
};
use railbus::{Bus, Event, delivery::Delivery, json};
use std::{
    collections::BTreeMap,
    env,
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Where a worker finds its store, and where it writes down what it does.
const STORE: &str = "RAILBUS_BY_KEY_STORE";
const LOG: &str = "RAILBUS_BY_KEY_LOG";

const KEYS: usize = 10;
const EACH: usize = 30;
const KILLS: usize = 6;

/// What a worker process runs; without a store to work on it is no test at all.
#[railbus::test(timeout = "10m")]
async fn worker() {
    let (Ok(url), Ok(log)) = (env::var(STORE), env::var(LOG)) else { return };
    let bus = Bus::open(&url).await.unwrap();
    let on = bus.on("step").group("g").ordered_by_key().limit(4).retry(quick(1000));
    let handler = async move |d: Delivery| {
        let (key, n) = (d.event().key().unwrap(), d.event().get::<usize>("n").unwrap());
        let write = |what: &str| {
            let mut log = OpenOptions::new().append(true).open(&log).unwrap();
            // One write, so that lines of several processes do not mix.
            log.write_all(format!("{what} {key} {n}\n").as_bytes()).unwrap();
        };
        write("begins");
        for _ in 0..n % 7 {
            tokio::task::yield_now().await;
        }
        if (n + d.attempt() as usize) % 3 == 0 {
            return Err("no luck");
        }
        write("ends");
        Ok(())
    };
    on.lease(Duration::from_secs(1)).run(handler).await.unwrap();
    std::future::pending::<()>().await;
}

/// A worker process that does not outlive the test.
struct Worker(Child);

impl Worker {
    fn start(url: &str, log: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "processes::worker"]).env(STORE, url).env(LOG, log);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs workers on a store, kills some, and looks at the order of what they did.
async fn keys_stay_in_order(url: &str, log: &Path) {
    fs::write(log, "").unwrap();
    // A group that is there from the start, so that it sees all.
    let first = Bus::open(url).await.unwrap();
    first.on("step").group("g").ordered_by_key().run(async |_: Event| {}).await.unwrap();
    first.close().await.unwrap();
    let bus = Bus::open(url).await.unwrap();
    let events: Vec<_> = (0..KEYS * EACH)
        .map(|n| {
            let event = Event::new("step").key(format!("k{}", n % KEYS));
            event.payload(json!({ "n": n / KEYS })).into()
        })
        .collect();
    for published in bus.publish_all(&events).await {
        published.unwrap();
    }
    let mut workers: Vec<_> = (0..3).map(|_| Worker::start(url, log)).collect();
    let (began, mut kills, mut seen) = (Instant::now(), 0, 0);
    loop {
        assert!(began.elapsed() < Duration::from_secs(100), "it does not end");
        let lines = fs::read_to_string(log).unwrap().lines().count();
        if kills < KILLS && lines >= seen + KEYS * EACH / KILLS {
            workers[kills % 3].kill();
            workers[kills % 3] = Worker::start(url, log);
            (kills, seen) = (kills + 1, lines);
        }
        let groups = bus.keeper().unwrap().groups().await.unwrap();
        if groups[0].lag == 0 {
            break;
        }
        // sleep: other processes work; nothing tells how far they are.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(kills > KILLS / 2, "only {kills} kills");
    check(&fs::read_to_string(log).unwrap());
}

/// Each event of a key begins after the one before has ended; what was cut off begins again.
fn check(log: &str) {
    let mut keys: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.split(' ');
        let (what, key) = (words.next().unwrap(), words.next().unwrap());
        let n: usize = words.next().unwrap().parse().unwrap();
        let (now, ended) = keys.entry(key).or_insert((0, false));
        match what {
            "begins" if n == *now => {}
            "begins" if *ended && n == *now + 1 => (*now, *ended) = (n, false),
            "ends" if n == *now => *ended = true,
            _ => panic!("`{line}`, but {key} was at {now}, ended: {ended}"),
        }
    }
    assert_eq!(keys.len(), KEYS);
    assert!(keys.values().all(|last| *last == (EACH - 1, true)), "{keys:?}");
}

#[test]
fn the_check_sees_what_is_out_of_order() {
    let well: String = (0..KEYS)
        .flat_map(|key| (0..EACH).map(move |n| format!("begins k{key} {n}\nends k{key} {n}\n")))
        .collect();
    check(&well);
    for (from, to) in [("ends k3 7\n", ""), ("begins k3 7\n", "begins k3 8\n"), ("k9 29\n", "")] {
        assert!(std::panic::catch_unwind(|| check(&well.replace(from, to))).is_err(), "{from}");
    }
}

#[railbus::test(timeout = "5m")]
async fn three_processes_keep_each_key_in_order_though_they_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    for store in Store::that(keyed) {
        // Memory is one process's own.
        if let Some(url) = store.shared_url() {
            keys_stay_in_order(url, &folder.path().join("log")).await;
        }
    }
}
