//! What happens to those under load: who is killed, and when.

use crate::{ledger::Ledger, roles::Role};
use railbus::bus::Bus;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long what is left may take.
const SETTLES_WITHIN: Duration = Duration::from_secs(300);

/// A server that can be killed and paused.
pub(crate) trait Server: Send {
    fn kill_and_start(&mut self);
    fn stand_still(&mut self);
    fn go_on(&mut self);
}

#[cfg(feature = "redis")]
impl Server for railbus_testbed::Redis {
    fn kill_and_start(&mut self) {
        self.kill().unwrap();
        self.start_again().unwrap();
    }
    fn stand_still(&mut self) {
        self.pause().unwrap();
    }
    fn go_on(&mut self) {
        self.resume().unwrap();
    }
}

#[cfg(feature = "postgres")]
impl Server for railbus_testbed::Postgres {
    fn kill_and_start(&mut self) {
        self.kill().unwrap();
        self.start_again().unwrap();
    }
    fn stand_still(&mut self) {
        self.pause().unwrap();
    }
    fn go_on(&mut self) {
        self.resume().unwrap();
    }
}

/// Those under load.
pub(crate) struct Fleet {
    url: String,
    ledger: Ledger,
    publisher: Role,
    consumer: Role,
}

impl Fleet {
    pub(crate) fn new(url: String, ledger: Ledger) -> Self {
        let publisher = Role::start("publisher", &url, &ledger);
        let consumer = Role::start("consumer", &url, &ledger);
        Self { url, ledger, publisher, consumer }
    }

    fn kill(&mut self, name: &'static str) {
        let role = if name == "publisher" { &mut self.publisher } else { &mut self.consumer };
        role.kill();
        *role = Role::start(name, &self.url, &self.ledger);
    }

    /// Waits until a hundred more are confirmed, the group has nothing left, and all is in order.
    async fn come_to_rest(mut self, killed: &str) {
        let some = self.ledger.confirmed() + 100;
        let began = Instant::now();
        while self.ledger.confirmed() < some {
            assert!(began.elapsed() < SETTLES_WITHIN, "{killed}: nothing is confirmed any more");
            // sleep: another process works; its progress tells nobody.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.publisher.kill();
        let bus = Bus::open(&self.url).await.unwrap();
        loop {
            let groups = bus.keeper().unwrap().groups().await.unwrap();
            if groups.iter().any(|g| g.name == "workers" && g.lag == 0) {
                break;
            }
            let late = began.elapsed() > SETTLES_WITHIN;
            assert!(!late, "{killed}: the group does not settle: {groups:?}");
            // sleep: as above.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bus.close().await.unwrap();
        self.consumer.kill();
        self.ledger.verify(killed);
    }
}

/// A small random generator, so that a seed repeats a run's choices.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A time in which somebody is killed again and again.
pub(crate) struct Chaos {
    load: Duration,
    server: Option<Box<dyn Server>>,
    random: Random,
    killed: BTreeMap<&'static str, u32>,
}

impl Chaos {
    pub(crate) fn new(load: Duration, server: Option<Box<dyn Server>>) -> Self {
        let given = std::env::var("RAILBUS_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = given.unwrap_or(clock | 1);
        eprintln!("seed {seed}, {load:?}");
        Self { load, server, random: Random(seed), killed: BTreeMap::new() }
    }

    pub(crate) async fn run(mut self, mut fleet: Fleet) {
        // Where there is a server, all need some time to come back before the next one goes.
        let most = if self.server.is_some() { 2_000 } else { 180 };
        let began = Instant::now();
        while began.elapsed() < self.load {
            let wait = Duration::from_millis(20 + self.random.below(most));
            // sleep: a kill must come at a moment that nobody can foresee.
            tokio::time::sleep(wait).await;
            for name in self.choose() {
                *self.killed.entry(name).or_default() += 1;
                match (name, &mut self.server) {
                    ("server", Some(server)) => {
                        tokio::task::block_in_place(|| server.kill_and_start());
                    }
                    ("paused", Some(server)) => {
                        server.stand_still();
                        let pause = Duration::from_millis(self.random.below(2_500));
                        // sleep: a server that stands still for a while.
                        tokio::time::sleep(pause).await;
                        server.go_on();
                    }
                    _ => fleet.kill(name),
                }
            }
        }
        fleet.come_to_rest(&format!("{:?}", self.killed)).await;
    }

    /// Chooses whose turn it is.
    fn choose(&mut self) -> Vec<&'static str> {
        let choices: &[&[&str]] = match self.server {
            None => &[&["publisher"], &["consumer"], &["publisher", "consumer"]],
            Some(_) => &[
                &["publisher"],
                &["consumer"],
                &["publisher", "consumer"],
                &["server"],
                &["server", "consumer"],
                &["paused"],
            ],
        };
        choices[self.random.below(choices.len() as u64) as usize].to_vec()
    }
}
