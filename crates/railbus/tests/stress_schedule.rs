//! A fleet with one schedule: processes on one file, their clocks seconds apart, some of them
//! killed with SIGKILL. Each tick is one event, and one member handles it. `RAILBUS_STRESS=1` makes
//! it 3,000 ticks and 150 kills, `RAILBUS_SEED` repeats a run's kills.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, Schedule, clock::Timestamp, schedule::Missed};
use std::{
    collections::{HashMap, HashSet},
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_millis(50);
const LEASE: Duration = Duration::from_secs(1);

/// How far the members' clocks are off, in milliseconds.
const CLOCKS: [i64; 3] = [0, -1_100, 1_900];

/// How many ticks lie between them: so many may come at once when all begin.
const APART: usize = 3_000 / 50;

fn url(place: &Path) -> String {
    format!("sqlite:{}", place.join("events.db").display())
}

/// Ticks and handles until it is killed, or told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member() {
    let (Ok(clock), Ok(place)) = (std::env::var("CLOCK"), std::env::var("PLACE")) else { return };
    let (clock, place): (i64, PathBuf) = (clock.parse().unwrap(), place.into());
    let bus = Bus::open(&url(&place)).await.unwrap();
    let log = OpenOptions::new().create(true).append(true).open(place.join("handled")).unwrap();
    let pid = std::process::id();
    let log = std::sync::Arc::new(log);
    let handle = async move |event: Event| {
        (&*log).write_all(format!("{} {pid}\n", event.id()).as_bytes()).unwrap();
        // sleep: who is busy leaves the next tick to the others.
        tokio::time::sleep(EVERY).await;
    };
    let on = bus.on("tick").group("workers").named("work").limit(1).lease(LEASE);
    on.retry(railbus::Retry::attempts(1000)).run(handle).await.unwrap();
    let often = Schedule::every(EVERY).unwrap().missed(Missed::All);
    let now = move || Timestamp::from_micros(Timestamp::now().as_micros() + clock * 1000);
    let often = bus.schedule("often", often).clock(now);
    let scheduled = often.event(|_| Event::new("tick")).unwrap();
    while !place.join("stop").exists() {
        // sleep: a file tells nobody that it is there.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scheduled.cancel();
    bus.idle().await.unwrap();
    bus.close().await.unwrap();
}

/// A child that does not outlive the test.
struct Member(Child);

impl Member {
    fn start(clock: i64, place: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "member", "--nocapture"])
            .envs([("CLOCK", &*clock.to_string()), ("PLACE", place.to_str().unwrap())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Kills it and returns its process id.
    fn kill(mut self) -> u32 {
        assert!(self.0.try_wait().unwrap().is_none(), "a member ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        self.0.id()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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

fn store(place: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(place.join("events.db")).unwrap()
}

/// Returns how many events are stored.
fn count(place: &Path) -> usize {
    let count = "SELECT count(*) FROM events";
    let count = store(place).query_row(count, [], |row| row.get::<_, i64>(0));
    // Before a member has made the file there are none.
    count.unwrap_or(0) as usize
}

/// Returns the events stored, in the log's order.
fn events(place: &Path) -> Vec<Event> {
    let store = store(place);
    let mut bodies = store.prepare("SELECT body FROM events ORDER BY seq").unwrap();
    let bodies = bodies.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    bodies.map(|body| railbus::codec::decode(&body.unwrap().into()).unwrap()).collect()
}

/// Runs a fleet until so many ticks have come, one after another, with so many kills on the way, and returns what was
/// killed.
fn run(place: &Path, ticks: usize, kills: usize, random: &mut Random) -> HashSet<u32> {
    let mut fleet: Vec<_> = CLOCKS.iter().map(|clock| Member::start(*clock, place)).collect();
    let mut killed = HashSet::new();
    let began = Instant::now();
    loop {
        let stored = count(place).saturating_sub(APART);
        assert!(began.elapsed() < Duration::from_secs(900), "{stored} ticks of {ticks}");
        if killed.len() == kills && stored >= ticks {
            break;
        }
        if killed.len() < kills && stored >= (killed.len() + 1) * ticks / (kills + 1) {
            let victim = random.below(3) as usize;
            let member = Member::start(CLOCKS[victim], place);
            killed.insert(std::mem::replace(&mut fleet[victim], member).kill());
        }
        // sleep: other processes work, their progress tells nobody; and a kill must come at a
        // moment that nobody can foresee.
        std::thread::sleep(Duration::from_millis(5 + random.below(30)));
    }
    fs::write(place.join("stop"), "").unwrap();
    for member in &mut fleet {
        assert!(member.0.wait().unwrap().success(), "a member failed");
    }
    killed
}

/// Looks at what is stored and at who handled what.
fn verify(place: &Path, killed: &HashSet<u32>) {
    let events = events(place);
    let every = Schedule::every(EVERY).unwrap();
    for (n, two) in events.windows(2).enumerate() {
        let next = every.after(two[0].timestamp()).unwrap();
        assert_eq!(two[1].timestamp(), next.at(), "tick {n} is not followed by the next one");
        assert_eq!(two[1].id(), next.id("often"));
    }
    let log = fs::read_to_string(place.join("handled")).unwrap();
    let mut handled = HashMap::<&str, Vec<u32>>::new();
    for (id, pid) in log.lines().filter_map(|line| line.split_once(' ')) {
        handled.entry(id).or_default().push(pid.parse().unwrap());
    }
    let members: HashSet<u32> = handled.values().flatten().copied().collect();
    let again = handled.values().filter(|pids| pids.len() > 1).count();
    eprintln!(
        "{} ticks, {} kills, {} members, {again} ticks again after a kill",
        events.len(),
        killed.len(),
        members.len()
    );
    assert!(members.len() > 1, "one member did it all");
    assert_eq!(handled.len(), events.len());
    for event in &events {
        let pids = handled.get(event.id()).expect("a tick was not handled");
        // Only who died in the middle of it may have been at it before.
        let before = &pids[..pids.len() - 1];
        assert!(before.iter().all(|pid| killed.contains(pid)), "{} twice: {pids:?}", event.id());
    }
}

#[test]
fn a_tick_is_one_event_and_one_members_however_far_the_clocks_are_apart() {
    let folder = tempfile::tempdir().unwrap();
    let killed = run(folder.path(), 40, 0, &mut Random(1));
    verify(folder.path(), &killed);
}

#[test]
fn no_tick_is_lost_or_stored_twice_when_members_are_killed() {
    let stress = std::env::var_os("RAILBUS_STRESS").is_some();
    let (ticks, kills) = if stress { (3_000, 150) } else { (60, 5) };
    let given = std::env::var("RAILBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = given.unwrap_or(clock | 1);
    eprintln!("seed {seed}, {kills} kills");
    let folder = tempfile::tempdir().unwrap();
    let killed = run(folder.path(), ticks, kills, &mut Random(seed));
    verify(folder.path(), &killed);
}
