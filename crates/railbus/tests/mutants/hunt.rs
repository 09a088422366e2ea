//! The hunt for mutants.

use super::{
    hunted::{HUNTED, Hunted, Needs},
    mutant::Mutant,
    spoilt::{self, Spoilt},
    wrapped::{Shared, Wrapped},
};
use futures_util::{StreamExt, stream};
use railbus::{
    Error, ErrorKind,
    backend::{Backend, Capability},
    backends,
    clock::Timestamp,
    conformance::{CaseReport, Counts, Status, Suite, Target},
    options::Options,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How long a mutant is given to deliver what it never will.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many are hunted at once: they mostly wait.
const AT_ONCE: usize = 6;

/// Returns how much of everything a hunt does: a mutant shows in little.
fn few() -> Counts {
    let mut few = Counts::short();
    (few.shared, few.published, few.subscribers) = (200, 60, 8);
    (few.many_topics, few.nacks, few.reopened) = (50, 50, 10);
    few
}

/// The case that counts what there is in this process, and so wants it for itself.
const ALONE: &str = "leaks";

/// Puts a wrapper that is or is not sane around a store.
fn target(store: Target, mutant: Mutant) -> Target {
    let (shared, edges) = (Arc::<Shared>::default(), Arc::<spoilt::Shared>::default());
    let target = store.around(move |inner| {
        let inside = Arc::new(Wrapped::new(inner, mutant, Arc::clone(&shared)));
        Arc::new(Spoilt::new(inside, mutant, Arc::clone(&edges))) as Arc<dyn Backend>
    });
    if mutant != Mutant::VagueRefusal {
        return target;
    }
    target.stranger(|| {
        let refused = Error::new(ErrorKind::Unavailable, "open", "it may be a wrong password");
        Box::pin(async { Err(refused) })
    })
}

/// Returns what is hunted on the backend of that URL, with what there is.
fn hunted_on(url: &str, there: &[Needs]) -> Vec<Hunted> {
    let row = backends::find(&Options::parse(url).unwrap()).unwrap();
    let capability: &Capability = row.capability;
    let hunted = |hunted: &&Hunted| {
        let is_there = hunted.needs == Needs::Nothing || there.contains(&hunted.needs);
        is_there && (hunted.claims)(capability)
    };
    HUNTED.iter().filter(hunted).copied().collect()
}

/// Hunts every mutant of what the backend claims, each in a store of its own and with the case that
/// is there for it.
pub(crate) async fn all_are_caught(fresh: impl Fn() -> String, there: &[Needs]) {
    let hunted = hunted_on(&fresh(), there);
    are_caught(fresh, hunted).await;
}

/// Hunts these mutants, each by the first case that is there for it, and runs those cases on the wrapper
/// that changes nothing.
pub(crate) async fn some_are_caught(
    fresh: impl Fn() -> String,
    there: &[Needs],
    mutants: &[Mutant],
) {
    let all = hunted_on(&fresh(), there);
    let first = |mutant: &Mutant| all.iter().find(|hunted| hunted.mutant == *mutant).copied();
    let hunted: Vec<_> = mutants.iter().filter_map(first).collect();
    assert_eq!(hunted.len(), mutants.len(), "some are not hunted there: {mutants:?}");
    let cases: BTreeSet<_> = hunted.iter().map(|hunted| hunted.case).collect();
    let suite = Suite::new(target(Target::url(&fresh()).unwrap(), Mutant::Sane));
    for report in suite.only(cases).counts(few()).run().await.unwrap().cases {
        assert_eq!(report.status, Status::Passed, "{report:?}");
    }
    are_caught(fresh, hunted).await;
}

async fn are_caught(fresh: impl Fn() -> String, hunted: Vec<Hunted>) {
    let kinds: BTreeSet<_> = hunted.iter().map(|hunted| format!("{:?}", hunted.mutant)).collect();
    assert!(kinds.len() >= 10, "only {kinds:?}");
    let mut escaped = Vec::new();
    for (alone, at_once) in [(false, AT_ONCE), (true, 1)] {
        let these = hunted.iter().filter(|hunted| (hunted.case == ALONE) == alone);
        let hunts = these.map(|hunted| hunt(Target::url(&fresh()).unwrap(), *hunted));
        let hunts: Vec<_> = hunts.collect();
        let of_these = stream::iter(hunts).buffer_unordered(at_once);
        escaped.extend(of_these.filter_map(async |found| found).collect::<Vec<_>>().await);
    }
    println!("{} kinds of mutants by {} hunts", kinds.len(), hunted.len());
    assert!(escaped.is_empty(), "{} mutants escaped:\n{}", escaped.len(), escaped.join("\n"));
}

/// Runs the case that is there for a mutant; returns what it came to if that is not what it should.
async fn hunt(store: Target, hunted: Hunted) -> Option<String> {
    let suite = Suite::new(target(store, hunted.mutant)).only([hunted.case]);
    // What was on its way when it was cut off may come again when its lease has run out, of 3 s there.
    let patience = if hunted.case == "reset" { PATIENCE * 2 } else { PATIENCE };
    let certificate = suite.counts(few()).patience(patience).run().await.unwrap();
    let [report] = certificate.cases.as_slice() else { panic!("{certificate:?}") };
    let why = report.why.as_deref().unwrap_or_default();
    let caught =
        report.status == Status::Failed && hunted.says.split('|').any(|says| why.contains(says));
    (!caught).then(|| format!("{:?} by {report:?}", hunted.mutant))
}

/// Runs one case on a mutant.
pub(crate) async fn one(store: Target, mutant: Mutant, case: &str) -> CaseReport {
    Suite::new(target(store, mutant)).only([case]).run().await.unwrap().cases.remove(0)
}

/// Checks that a start at a time that is an hour off is caught, be it by a mutant or by the store.
pub(crate) async fn fails_by_the_clock(store: Target, mutant: Mutant) {
    let report = one(store, mutant, "late subscriber").await;
    let why = report.why.as_deref().unwrap_or_default();
    assert!(report.status == Status::Failed && why.contains("before it too"), "{report:?}");
}

/// Checks that it passes, and that it is told, where the target says that the clock is an hour ahead.
pub(crate) async fn passes_by_its_own_clock(store: Target) {
    let ahead = || Timestamp::now().after(Duration::from_secs(3600));
    let store = store.clock(move || Box::pin(async move { Ok(ahead()) }));
    let report = one(store, Mutant::ClockAhead, "late subscriber").await;
    let why = report.why.as_deref().unwrap_or_default();
    assert!(
        report.status == Status::Passed && why.contains("ahead of this machine's"),
        "{report:?}"
    );
}

/// Runs the whole suite on the wrapper that changes nothing, or the cases that are there for mutants.
pub(crate) async fn the_sane_one(store: Target, whole: bool) -> Vec<CaseReport> {
    let suite = Suite::new(target(store, Mutant::Sane));
    let cases: BTreeSet<_> = HUNTED.iter().map(|hunted| hunted.case).collect();
    let suite = if whole { suite } else { suite.only(cases) };
    suite.run().await.unwrap().cases
}

/// Runs cases on a store that claims less than it could; all pass but those that must be refused.
pub(crate) async fn less_is_enough(store: Target, less: Mutant, cases: &[&str], refused: &[&str]) {
    let suite = Suite::new(target(store, less));
    let suite = if cases.is_empty() { suite } else { suite.only(cases.iter().copied()) };
    for report in suite.run().await.unwrap().cases {
        let expected = match refused.contains(&report.name) {
            true => [Status::Refused; 2],
            false => [Status::Passed, Status::NotRun],
        };
        assert!(expected.contains(&report.status), "{less:?}: {report:?}");
    }
}

/// Checks that nothing is wrong with the wrapper that changes nothing, by the cases that tell the
/// mutants.
pub(crate) async fn sane_passes(url: &str, there: &[Needs]) {
    let cases: BTreeSet<_> = hunted_on(url, there).iter().map(|hunted| hunted.case).collect();
    for report in the_sane_one(Target::url(url).unwrap(), false).await {
        let told = cases.contains(report.name);
        assert!(!told || report.status == Status::Passed, "{report:?}");
    }
}
