//! Processes killed with SIGKILL at random points: what was confirmed is handled, nothing else is,
//! and the file stays sound. `RAILBUS_STRESS=1` makes it 200 kills, `RAILBUS_SEED` repeats a run.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{bus::Bus, event::Event};
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

const LEASE: Duration = Duration::from_secs(1);

/// The files of one run: the store, and what is known of it outside.
struct Place(PathBuf);

impl Place {
    fn url(&self) -> String {
        format!("sqlite:{}", self.0.join("events.db").display())
    }

    fn log(&self, name: &str) -> File {
        OpenOptions::new().create(true).append(true).open(self.0.join(name)).unwrap()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
        // A line that a kill cut short was not written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(Into::into).collect()
    }
}

/// Publishes for ever, eight at a time: writes down each id before, and again once it is Ok.
async fn publish_for_ever(place: &Place) {
    let bus = Bus::open(&place.url()).await.unwrap();
    let (tried, confirmed) = (Arc::new(place.log("tried")), Arc::new(place.log("confirmed")));
    let one = |task: u32| {
        let (bus, tried, confirmed) = (bus.clone(), Arc::clone(&tried), Arc::clone(&confirmed));
        tokio::spawn(async move {
            for n in 0_u64.. {
                let id = format!("{}-{task}-{n}", std::process::id());
                (&*tried).write_all(format!("{id}\n").as_bytes()).unwrap();
                let event =
                    Event::new("load").id(&id).payload(json!({ "id": id, "pad": "x".repeat(64) }));
                bus.publish(event).await.unwrap();
                (&*confirmed).write_all(format!("{id}\n").as_bytes()).unwrap();
            }
        })
    };
    for task in (0..8).map(one).collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Handles for ever: writes down each event before it is acknowledged.
async fn handle_for_ever(place: &Place) {
    let bus = Bus::open(&place.url()).await.unwrap();
    let handled = Arc::new(place.log("handled"));
    bus.on("load")
        .group("workers")
        .named("write-down")
        .lease(LEASE)
        .retry(railbus::retry::Retry::attempts(1000))
        .run(move |event: &Event| {
            let inner: String = event.get("id").unwrap();
            (&*handled).write_all(format!("{} {inner}\n", event.id()).as_bytes()).unwrap();
        })
        .await
        .unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role() {
    let (Ok(role), Ok(place)) = (std::env::var("AS_CHILD"), std::env::var("PLACE")) else { return };
    let place = Place(place.into());
    match role.as_str() {
        "publisher" => publish_for_ever(&place).await,
        _ => handle_for_ever(&place).await,
    }
}

/// A child that does not outlive the test.
struct Role {
    name: &'static str,
    child: Child,
}

impl Role {
    fn start(name: &'static str, place: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "role", "--nocapture"])
            .envs([("AS_CHILD", name), ("PLACE", place.to_str().unwrap())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { name, child }
    }

    fn kill(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "a {} ended by itself", self.name);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A small random generator, so that a seed repeats a run's kills.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_kills_of_publisher_and_consumer() {
    let stress = std::env::var_os("RAILBUS_STRESS").is_some();
    let kills = if stress { 200 } else { 8 };
    let given = std::env::var("RAILBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = given.unwrap_or(clock | 1);
    eprintln!("seed {seed}, {kills} kills");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let place = Place(folder.path().to_owned());
    let mut publisher = Role::start("publisher", folder.path());
    let mut consumer = Role::start("consumer", folder.path());
    let mut killed = HashMap::<&str, u32>::new();
    for _ in 0..kills {
        // sleep: a kill must come at a moment that nobody can foresee.
        tokio::time::sleep(Duration::from_millis(20 + random.below(180))).await;
        let victim = random.below(3);
        if victim != 0 {
            publisher.kill();
            publisher = Role::start("publisher", folder.path());
            *killed.entry("publisher").or_default() += 1;
        }
        if victim != 1 {
            consumer.kill();
            consumer = Role::start("consumer", folder.path());
            *killed.entry("consumer").or_default() += 1;
        }
    }
    // Both work for a while before the end, however short the rounds were.
    let some = place.lines("confirmed").len() + 100;
    while place.lines("confirmed").len() < some {
        tokio::task::yield_now().await;
    }
    publisher.kill();
    settle(&place).await;
    consumer.kill();
    verify(&place, &killed);
}

/// Waits until the group has nothing left.
async fn settle(place: &Place) {
    let bus = Bus::open(&place.url()).await.unwrap();
    let began = Instant::now();
    loop {
        let groups = bus.keeper().unwrap().groups().await.unwrap();
        if groups.iter().any(|g| g.name == "workers" && g.lag == 0) {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(300),
            "the group does not settle: {groups:?}"
        );
        // sleep: another process works; its progress tells nobody.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bus.close().await.unwrap();
}

fn verify(place: &Place, killed: &HashMap<&str, u32>) {
    let tried: HashSet<String> = place.lines("tried").into_iter().collect();
    let confirmed = place.lines("confirmed");
    let mut handled = HashMap::<String, u32>::new();
    for line in place.lines("handled") {
        let (id, inner) = line.split_once(' ').unwrap();
        assert_eq!(id, inner, "an event carries another's payload");
        *handled.entry(id.into()).or_default() += 1;
    }
    let lost: Vec<_> = confirmed.iter().filter(|id| !handled.contains_key(*id)).collect();
    let invented: Vec<_> = handled.keys().filter(|id| !tried.contains(*id)).collect();
    let twice = handled.values().filter(|n| **n > 1).count();
    eprintln!(
        "{killed:?}: {} tried, {} confirmed, {} handled, {twice} of them more than once, {} lost, {} invented",
        tried.len(),
        confirmed.len(),
        handled.len(),
        lost.len(),
        invented.len()
    );
    assert!(confirmed.len() > 100, "there was no load");
    assert!(lost.is_empty(), "confirmed and not handled: {lost:?}");
    assert!(invented.is_empty(), "handled and never published: {invented:?}");
    let store = rusqlite::Connection::open(place.0.join("events.db")).unwrap();
    let sound: String = store.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}
