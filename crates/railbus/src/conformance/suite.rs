//! Running the cases.

use super::{
    cases::{Beside, CASES, Case},
    certificate::{CaseReport, Certificate, Status},
    counts::Counts,
    finding::{Broken, Checked, Finding},
    random::Random,
    stage::Stage,
    target::Target,
};
use crate::{
    backend::Capability,
    error::{Error, ErrorKind, Result, nearest},
    id::new_id,
};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared},
    stream,
};
use std::{
    fmt,
    future::{Future, pending},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

/// How long a case waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many such waits may follow one another without a sign of life.
const WAITS: u32 = 4;

/// How often this process looks whether it stands still.
const TICK: Duration = Duration::from_millis(20);

/// Which cases run after which, and how many of them at once: those that mostly wait, then those
/// that have much to do, those that are cut off by proxies of their own, and last those that need this
/// process or the server for themselves.
const TURNS: [(Beside, usize); 4] =
    [(Beside::Others, 8), (Beside::None, 1), (Beside::CutOff, 4), (Beside::Nothing, 1)];

/// By how much leases grow each time that the machine was too slow for those of a case.
const SCALES: [u32; 3] = [1, 4, 16];

/// A run of the conformance suite, in the making.
///
/// # Examples
/// ```
/// use railbus::backend::Backend;
/// use railbus::backends::memory::Memory;
/// use railbus::conformance::{CaseReport, Certificate, Counts, Status, Suite, Target};
/// use std::{sync::Arc, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let memory = Memory::default();
/// let target = Target::new(move || {
///     let connection: Arc<dyn Backend> = Arc::new(memory.connect());
///     Box::pin(async { Ok(connection) })
/// });
/// let suite = Suite::new(target)
///     .seed(7)
///     .counts(Counts::short())
///     .patience(Duration::from_secs(10))
///     .until(std::future::pending())
///     .each(|case| println!("{} {}", case.name, case.status))
///     .only([Suite::names()[0]]);
/// assert_eq!(suite.seed_used(), 7);
/// assert_eq!(Suite::needs("redrive"), ["groups", "dead letters"]);
/// let certificate: Certificate = suite.run().await?;
/// let case: &CaseReport = &certificate.cases[0];
/// assert_eq!((case.status, case.status.name()), (Status::Passed, "passed"), "{:?}", case.why);
/// assert!(certificate.is_conformant() && certificate.count(Status::Failed) == 0);
/// assert!(certificate.case(case.name).is_some() && certificate.to_json()["cases"].is_array());
/// println!("{}", certificate.to_markdown());
/// assert_eq!(certificate.to_record()["capability"]["groups"], true);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a suite does nothing until it is run"]
pub struct Suite {
    target: Target,
    seed: u64,
    counts: Counts,
    patience: Duration,
    only: Option<Vec<String>>,
    tells: Option<Teller>,
    until: Until,
}

/// What is said of a case that was not run to its end.
const GIVEN_UP: &str = "the run was given up";

/// What the run is given up for; pending if for nothing.
type Until = Shared<BoxFuture<'static, ()>>;

/// Who is told of each case.
#[derive(Clone)]
struct Teller(Arc<dyn Fn(&CaseReport) + Send + Sync>);

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

impl Suite {
    /// Creates a run of all cases on `target`, in short counts, with a seed of its own.
    pub fn new(target: Target) -> Self {
        let random = new_id()
            .bytes()
            .fold(0, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        // Short enough to be typed.
        let seed = random % 1_000_000;
        let (only, tells, until) = (None, None, pending().boxed().shared());
        Self { target, seed, counts: Counts::short(), patience: PATIENCE, only, tells, until }
    }

    /// Sets the seed, to repeat a run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets how much of everything there is (default [`Counts::short`]).
    pub fn counts(mut self, counts: Counts) -> Self {
        self.counts = counts;
        self
    }

    /// Sets how long a case waits for what must happen before it fails (default 30 s).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs only the cases with these names.
    pub fn only<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.only = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Tells of each case as it ends: a run may take minutes.
    pub fn each(mut self, tell: impl Fn(&CaseReport) + Send + Sync + 'static) -> Self {
        self.tells = Some(Teller(Arc::new(tell)));
        self
    }

    /// Gives the run up when `stop` is through, such as on Ctrl-C: the cases under way end, a server that
    /// one of them has down runs again, and what the run made is forgotten. Those and all that were to
    /// come are [`Status::NotRun`].
    pub fn until(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = stop.boxed().shared();
        self
    }

    /// Returns the names of all cases, in the order they run.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        CASES.iter().map(|case| case.name).collect()
    }

    /// Returns what a case needs that not every store has, in a few words each: what it must claim, then
    /// what must be known of it. Nothing for a case that every store shows, and for none of that name.
    #[must_use]
    pub fn needs(case: &str) -> &'static [&'static str] {
        CASES.iter().find(|known| known.name == case).map_or(&[], |case| case.needs)
    }

    /// Returns the seed.
    #[must_use]
    pub fn seed_used(&self) -> u64 {
        self.seed
    }

    /// Runs the cases, each with connections, topics and groups of its own: those that mostly wait
    /// beside each other, then those that have much to do one after another, those that are cut off by
    /// a proxy beside each other, last those that need this process or the server for themselves.
    ///
    /// A case that fails is run again with longer leases if the machine was too slow for them.
    ///
    /// # Errors
    /// Returns what the target says if it can't be opened, and a config error for a name in
    /// [`Suite::only`] that is no case's. A case that fails is no error.
    pub async fn run(self) -> Result<Certificate> {
        let (began, chosen) = (Instant::now(), self.chosen()?);
        let capability = self.reached().await?;
        let mut cases = Vec::with_capacity(chosen.len());
        for (beside, at_once) in TURNS {
            let playing = |(place, case)| self.clone().playing(place, case, capability.clone());
            let playing: Vec<_> = turn(&chosen, beside).into_iter().map(playing).collect();
            // A task begins when its turn comes: futures are lazy.
            let mut running = stream::iter(playing).buffer_unordered(at_once);
            while let Some((place, name, report)) = running.next().await {
                let lost = || Error::new(ErrorKind::Internal, "conformance", "a case was lost");
                let report = report.map_err(|e| lost().with("case", name).because(e))?;
                tracing::info!(case = report.name, status = %report.status, why = report.why);
                if let Some(Teller(tell)) = &self.tells {
                    tell(&report);
                }
                cases.push((place, report));
            }
        }
        cases.sort_by_key(|(place, _)| *place);
        let cases = cases.into_iter().map(|(_, report)| report).collect();
        let (backend, elapsed) = (capability.name.into(), began.elapsed());
        let (seed, counts) = (self.seed, self.counts);
        Ok(Certificate { backend, capability, seed, counts, elapsed, cases })
    }

    /// Opens the target once, so that what is wrong with it is told once.
    async fn reached(&self) -> Result<Capability> {
        let late = |_| {
            let why = format!("it did not open, answer and close within {:?}", self.patience);
            Error::new(ErrorKind::Timeout, "conformance", why)
        };
        let reaching = async {
            let backend = self.target.open().await?;
            let capability = backend.capability().clone();
            let reached = backend.ping().await;
            backend.close(self.patience).await?;
            reached.map(|()| capability)
        };
        tokio::time::timeout(self.patience, reaching).await.map_err(late)?
    }

    fn chosen(&self) -> Result<Vec<&'static Case>> {
        let Some(only) = &self.only else { return Ok(CASES.iter().collect()) };
        for name in only {
            if !CASES.iter().any(|case| case.name == name) {
                let hint = match nearest(name, Self::names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the cases are: {}", Self::names().join(", ")),
                };
                let why = format!("there is no case `{name}`");
                return Err(Error::new(ErrorKind::Config, "conformance", why).hint(hint));
            }
        }
        Ok(CASES.iter().filter(|case| only.iter().any(|name| name == case.name)).collect())
    }

    /// Runs a case in a task of its own, so that no other case is in the way of its timers.
    async fn playing(
        self,
        place: usize,
        case: &'static Case,
        capability: Capability,
    ) -> (usize, &'static str, std::result::Result<CaseReport, JoinError>) {
        let report = async move { self.report(case, &capability).await };
        let task = AbortOnDropHandle::new(tokio::spawn(report));
        (place, case.name, task.await)
    }

    async fn report(&self, case: &'static Case, capability: &Capability) -> CaseReport {
        let began = Instant::now();
        let (mut status, mut why) = (Status::NotRun, None);
        let mut excused = String::new();
        for scale in SCALES {
            let random = Random::of(self.seed, case.name);
            let (target, capability) = (self.target.clone(), capability.clone());
            let stage = Stage::new(target, capability, self.counts, self.patience, random, scale);
            let found = tokio::select! {
                biased;
                () = self.until.clone() => Ok(Finding::NotRun(GIVEN_UP.into())),
                found = watch(&stage, play(case, &stage)) => found,
            };
            stage.strike().await;
            let slow = found.as_ref().is_err_and(|broken| stage.excuses(broken.excuse()));
            (status, why) = match found {
                Ok(Finding::Passed(note)) => (Status::Passed, note),
                Ok(Finding::Refused(how)) => (Status::Refused, Some(how)),
                Ok(Finding::NotRun(why)) => (Status::NotRun, Some(why)),
                Err(broken) => (Status::Failed, Some(broken.to_string())),
            };
            if !slow {
                break;
            }
            let slowest = stage.history.slowest();
            tracing::warn!(case = case.name, ?slowest, why, "too slow: again with longer leases");
            let failed = why.as_deref().unwrap_or_default();
            excused = format!("excused once, as something took {slowest:?}: {failed}");
        }
        if status == Status::Passed && !excused.is_empty() {
            why = Some(why.map_or(excused.clone(), |why| format!("{why}; {excused}")));
        }
        CaseReport { name: case.name, status, why, elapsed: began.elapsed() }
    }
}

/// Returns the cases of a turn, each with its place among all.
fn turn(chosen: &[&'static Case], beside: Beside) -> Vec<(usize, &'static Case)> {
    chosen.iter().copied().enumerate().filter(|(_, case)| case.beside == beside).collect()
}

/// Plays the case, and looks at its history whatever it came to: a rule that was broken says more
/// than what followed from it.
async fn play(case: &Case, stage: &Stage) -> Checked<Finding> {
    let played = AssertUnwindSafe((case.run)(stage)).catch_unwind().await;
    let found = played.unwrap_or_else(|_| Err(Broken::new("the backend or the case panicked")));
    match (found, stage.check_history()) {
        (Ok(found), Ok(())) => Ok(found),
        (Ok(_), Err(rule)) => Err(rule),
        (Err(broken), Ok(())) => Err(broken),
        (Err(broken), Err(rule)) => Err(broken.follows(&rule)),
    }
}

/// Runs `case`, noting when this process stands still, and not for ever: what a backend does not
/// return from is told by its case.
async fn watch(stage: &Stage, case: impl Future<Output = Checked<Finding>>) -> Checked<Finding> {
    let longest = stage.patience * WAITS;
    let mut case = std::pin::pin!(case);
    loop {
        let began = Instant::now();
        match tokio::time::timeout(TICK, &mut case).await {
            Ok(found) => return found,
            Err(_) => stage.history.stalled(began.elapsed().saturating_sub(TICK)),
        }
        if stage.history.silence() > longest {
            let last = stage.history.last();
            let why = format!("nothing happened for {longest:?}, and it waits; last came: {last}");
            return Err(Broken::firm(why));
        }
    }
}
