//! Running a simulation with many seeds, and making the one that fails small.

use super::{
    found::{Found, Passed},
    handle::Sim,
    luck::{FAULTS, Fault, Luck},
    quiet::Quiet,
    world::World,
};
use crate::{
    backends::memory::Memory,
    error::BoxError,
    id::forget_last,
    options::Options,
    pretend::{self, mixed},
    runtime::{Ending, Runtime, told},
    testing::time::virtual_time,
};
use std::{
    env, fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};

/// How many seeds are tried unless it is said.
const SEEDS: u64 = 1000;

/// How long a simulation may take unless it is said, in its own time.
const LIMIT: Duration = Duration::from_secs(86_400);

/// How many faults may cost a try unless it is said: fewer than a group has tries.
const TRIES: usize = 3;

/// How many smaller numbers of faults are tried.
const SMALLER: usize = 64;

/// Runs a simulation with a thousand seeds, as [`Simulation::run`].
///
/// # Examples
/// ```
/// use railbus::{Event, Payload, testing};
/// use std::{collections::BTreeSet, sync::{Arc, Mutex}};
///
/// # fn main() {
/// testing::simulate(async |sim| -> railbus::Result<()> {
///     let paid: Arc<Mutex<BTreeSet<String>>> = Arc::default();
///     let kept = paid.clone();
///     sim.process("billing", async move |bus| {
///         let paid = kept.clone();
///         let pay = async move |event: Event| { paid.lock().unwrap().insert(event.id().into()); };
///         bus.on("order.placed").group("billing").run(pay).await?;
///         Ok(())
///     })
///     .await?;
///     for _ in 0..5 {
///         sim.publish(Event::new("order.placed")).await?;
///     }
///     sim.idle().await?;
///     assert_eq!(paid.lock().unwrap().len(), 5, "each once, however often it came");
///     Ok(())
/// });
/// # }
/// ```
///
/// # Panics
/// As [`Simulation::run`].
#[track_caller]
pub fn simulate<E: Ending>(body: impl AsyncFn(Sim) -> E) {
    Simulation::new().run(body);
}

/// A simulation in the making: a program's handlers on a store in memory, in the orders and with the
/// faults that come of seeds.
///
/// Everything runs on one thread, in virtual time. The seed decides whose turn it is among handlers
/// that are ready, how long answers take, and what fails: publishing, though it may have been
/// stored; fetching; settling; the renewal of leases; whole processes. The same seed gives the same
/// history. What is to be true is asserted by the body; that nothing is lost and nothing settled
/// twice is looked at by [`Sim::idle`].
///
/// `RAILBUS_SEED` runs one seed alone, as a failure names it, and `RAILBUS_SEEDS` so many.
///
/// # Examples
/// ```
/// use railbus::testing::{Found, Passed, Simulation};
/// use std::time::Duration;
///
/// let quick = || Simulation::new().seeds(10).crashes(false).outages(false).duplicates(false);
/// let passed: Passed = quick().try_run(async |sim| sim.idle().await).unwrap();
/// assert_eq!((passed.seeds, passed.faults), (10, 0));
///
/// assert!(quick().replay("2/0").try_run(async |sim| assert!(sim.seed() < 3)).is_ok());
/// assert!(quick().tries_lost(0).try_run(async |sim| sim.idle().await).is_ok());
/// let limit = Duration::from_secs(3600);
/// let found: Found = quick().limit(limit).try_run(async |sim| assert!(sim.seed() < 3)).unwrap_err();
/// assert_eq!((found.seed, found.replay(), found.repeats), (3, "3/0".to_owned(), true));
/// assert!(found.to_string().contains("replay: RAILBUS_SEED=3/0"));
/// ```
#[derive(Clone)]
#[must_use = "a simulation does nothing until it runs"]
pub struct Simulation {
    seeds: u64,
    limit: Duration,
    tries: usize,
    allowed: Vec<Fault>,
    replay: Option<(u64, usize)>,
}

/// What one seed came to.
struct Run {
    failure: Option<String>,
    faults: usize,
    history: Vec<String>,
}

impl Simulation {
    /// Makes one with a thousand seeds and all faults.
    pub fn new() -> Self {
        let allowed = FAULTS.iter().map(|(fault, _)| *fault).collect();
        Self { seeds: SEEDS, limit: LIMIT, tries: TRIES, allowed, replay: None }
    }

    /// Sets how many seeds are tried, from 0 on.
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds;
        self
    }

    /// Runs one seed alone, as [`Found::replay`] names it.
    ///
    /// # Panics
    /// Panics if it is no seed.
    #[track_caller]
    pub fn replay(mut self, seed: &str) -> Self {
        self.replay = Some(read(seed).unwrap_or_else(|| wrong("the seed", seed)));
        self
    }

    /// Sets how long one seed may take, in its own time (default: a day).
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how many faults of one seed may cost events a try (default: 3, so that none of them becomes
    /// a dead letter by faults alone, since a group has 5 tries unless it is said).
    pub fn tries_lost(mut self, most: usize) -> Self {
        self.tries = most;
        self
    }

    /// Sets whether processes die, and leases run out while handlers run (default: yes).
    pub fn crashes(self, are: bool) -> Self {
        self.allow(&[Fault::Crash, Fault::LeaseLost], are)
    }

    /// Sets whether events are stored twice, and delivered again after they were handled (default:
    /// yes).
    pub fn duplicates(self, are: bool) -> Self {
        let faults = [Fault::PublishedTwice, Fault::DeliveredAgain, Fault::SettleForgotten];
        self.allow(&faults, are)
    }

    /// Sets whether the store can't be reached, loses answers or is slow (default: yes).
    pub fn outages(self, are: bool) -> Self {
        let connection = [Fault::FetchFails, Fault::FetchLost, Fault::Slow];
        self.allow(&connection, are).allow(&[Fault::PublishFails, Fault::AnswerLost], are)
    }

    fn allow(mut self, faults: &[Fault], are: bool) -> Self {
        self.allowed.retain(|fault| !faults.contains(fault));
        if are {
            self.allowed.extend(faults);
        }
        self
    }

    /// Runs it with each seed, from a test that is not async.
    ///
    /// # Panics
    /// Panics with the first seed that fails, and says what happened and how it is replayed. Before,
    /// it leaves out as many of the seed's last faults as it can.
    #[track_caller]
    pub fn run<E: Ending>(self, body: impl AsyncFn(Sim) -> E) {
        if let Err(found) = self.try_run(body) {
            panic!("{found}");
        }
    }

    /// Runs it with each seed.
    ///
    /// # Errors
    /// Returns the first seed that fails, and what happened.
    ///
    /// # Panics
    /// Panics inside of a runtime, or if `RAILBUS_SEED` is no seed.
    pub fn try_run<E: Ending>(self, body: impl AsyncFn(Sim) -> E) -> Result<Passed, Found> {
        assert!(
            Handle::try_current().is_err(),
            "a simulation has a runtime of its own: call it from a plain #[test] fn"
        );
        let told = env::var("RAILBUS_SEED").ok();
        let told = told.map(|text| read(&text).unwrap_or_else(|| wrong("RAILBUS_SEED", &text)));
        let quiet = Quiet::new();
        if let Some((seed, most)) = self.replay.or(told) {
            return match self.once(seed, most, &body) {
                Run { failure: Some(failure), faults, history } => {
                    Err(self.again(seed, (faults, failure, history), &body))
                }
                Run { failure: None, faults, history } => Ok(Passed { seeds: 1, faults, history }),
            };
        }
        let seeds = env::var("RAILBUS_SEEDS").ok().and_then(|text| text.parse().ok());
        let mut passed = Passed { seeds: 0, faults: 0, history: Vec::new() };
        for seed in 0..seeds.unwrap_or(self.seeds) {
            let run = self.once(seed, usize::MAX, &body);
            if let Some(failure) = run.failure {
                return Err(self.smaller(seed, run.faults, failure, &body));
            }
            passed.seeds += 1;
            passed.faults += run.faults;
            passed.history = run.history;
        }
        drop(quiet);
        Ok(passed)
    }

    /// Looks for the fewest faults that let a seed fail.
    fn smaller<E: Ending>(
        &self,
        seed: u64,
        faults: usize,
        failure: String,
        body: &impl AsyncFn(Sim) -> E,
    ) -> Found {
        let of = |run: Run, message: String| (run.faults, message, run.history);
        for most in (0..faults).take(SMALLER) {
            let mut run = self.once(seed, most, body);
            if let Some(failure) = run.failure.take() {
                return self.again(seed, of(run, failure), body);
            }
        }
        let run = self.once(seed, faults, body);
        self.again(seed, of(run, failure), body)
    }

    /// Looks whether a failure repeats.
    fn again<E: Ending>(
        &self,
        seed: u64,
        (faults, message, history): (usize, String, Vec<String>),
        body: &impl AsyncFn(Sim) -> E,
    ) -> Found {
        let again = self.once(seed, faults, body);
        let repeats = again.failure.as_ref() == Some(&message) && again.history == history;
        Found { seed, faults, message, history, repeats }
    }

    /// Runs it with a seed, and at most so many of its faults.
    fn once<E: Ending>(&self, seed: u64, most: usize, body: &impl AsyncFn(Sim) -> E) -> Run {
        let runtime = match virtual_time(Runtime::current_thread()).start() {
            Ok(runtime) => runtime,
            Err(error) => {
                let failure = Some(error.to_string());
                return Run { failure, faults: 0, history: Vec::new() };
            }
        };
        pretend::set_chance(Some(mixed(seed)));
        forget_last();
        let entered = runtime.enter();
        let options = Options::parse("memory:?wire=always");
        let memory = options.and_then(|options| Memory::of(&options)).unwrap_or_default();
        let world = World::new(seed, memory, Luck::new(seed, most, self.tries, &self.allowed));
        drop(entered);
        let (of, limit) = (&world, self.limit);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let ended = runtime.block_on(async move {
                let sim = Sim::new(of);
                let reviving = sim.clone();
                let working = async {
                    sim.jostled(body(sim.clone())).await.end()?;
                    Ok(sim.idle().await?)
                };
                let working = async {
                    tokio::select! {
                        biased;
                        ended = working => ended,
                        revived = reviving.revive() => Ok(revived?),
                    }
                };
                let late =
                    |_| Err(format!("it is still running after {limit:?} of its time").into());
                timeout(limit, working).await.unwrap_or_else(late)
            });
            // What still runs is dropped here, where its panics are caught.
            drop(runtime);
            ended
        }));
        pretend::set_chance(None);
        pretend::set_wall(None);
        forget_last();
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(told_of(&error)),
            Err(panic) => Some(super::quiet::said(&*panic)),
        };
        let history = world.ledger().history().to_vec();
        let faults = world.luck().befallen();
        Run { failure, faults, history }
    }
}

fn told_of(error: &BoxError) -> String {
    told(&**error)
}

fn wrong(what: &str, text: &str) -> ! {
    panic!("{what} is `{text}`: write a seed such as 17, or 17/3")
}

/// Reads a seed, and the number of faults behind it.
fn read(text: &str) -> Option<(u64, usize)> {
    match text.trim().split_once('/') {
        Some((seed, most)) => Some((seed.parse().ok()?, most.parse().ok()?)),
        None => Some((text.trim().parse().ok()?, usize::MAX)),
    }
}

impl Default for Simulation {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Simulation({} seeds, {:?})", self.seeds, self.allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_seed_is_read_with_the_faults_behind_it() {
        assert_eq!(read("17"), Some((17, usize::MAX)));
        assert_eq!(read(" 17/3"), Some((17, 3)));
        for wrong in ["", "x", "1/", "/1", "1/2/3", "-1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
