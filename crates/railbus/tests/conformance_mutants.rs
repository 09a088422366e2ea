//! The suite catches backends that only say that they do: mutants of each, told by the case that is
//! there for them, and by their side a wrapper that changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mutants;

use mutants::{HUNTED, Mutant, all_are_caught, dedup_window, less_is_enough, the_sane_one};
use railbus::conformance::{CaseReport, Status, Suite, Target};
use std::{collections::HashSet, time::Duration};

#[test]
fn there_are_more_than_forty_mutants_and_none_is_sane() {
    let kinds: HashSet<_> = HUNTED.iter().map(|hunted| format!("{:?}", hunted.mutant)).collect();
    assert!(kinds.len() > 40, "{}", kinds.len());
    assert!(!kinds.contains(&format!("{:?}", Mutant::Sane)));
    assert!(HUNTED.iter().all(|hunted| Suite::names().contains(&hunted.case)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_of_memory_is_caught() {
    all_are_caught(|| "memory:".into(), &[]).await;
}

/// Checks that all cases passed which one process can show on its own.
fn passed(reports: &[CaseReport], refused: &[&str], not_run: &[&str]) {
    for report in reports {
        let expected = match report.name {
            name if refused.contains(&name) => Status::Refused,
            // Nobody says how to start a process here, or where a server is.
            "kill -9" | "clocks apart" | "wrong password" | "reconnect" | "reset"
            | "black hole" | "latency" | "server restarted" | "server killed" | "server paused" => {
                Status::NotRun
            }
            name if not_run.contains(&name) => Status::NotRun,
            _ => Status::Passed,
        };
        assert_eq!(report.status, expected, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_of_memory_that_changes_nothing_passes() {
    let reports = the_sane_one(Target::url("memory:").unwrap(), true).await;
    passed(&reports, &["late subscriber", "positions", "journal"], &["poison"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_claims_less_is_not_blamed_for_it() {
    let memory = || Target::url("memory:").unwrap();
    let refused = ["patterns", "late subscriber", "positions", "journal"];
    less_is_enough(memory(), Mutant::NoPatterns, &[], &refused).await;
    let cases = ["extension", "what is not claimed"];
    less_is_enough(memory(), Mutant::NoExtension, &cases, &["extension"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_forgotten_or_never_ends_is_caught() {
    for (kept, expected, says) in [
        (200, Status::Passed, "and not after"),
        (0, Status::Failed, "to be stored 1 times, and it came 2 times"),
        (600_000, Status::Failed, "after the window's end: waited"),
    ] {
        let report = dedup_window(Duration::from_millis(kept)).await;
        assert_eq!(report.status, expected, "{report:?}");
        assert!(report.why.as_ref().is_some_and(|why| why.contains(says)), "{report:?}");
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;
    use mutants::Needs;

    fn url(folder: &tempfile::TempDir) -> String {
        let name = railbus::id::new_id();
        format!("sqlite:{}", folder.path().join(name).display())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_mutant_of_sqlite_is_caught() {
        let folder = tempfile::tempdir().unwrap();
        all_are_caught(|| url(&folder), &[Needs::Bytes]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_claims_no_order_is_not_blamed_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::url(&url(&folder)).unwrap();
        less_is_enough(target, Mutant::NoOrder, &["poison", "concurrent publishers"], &[]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wrapper_of_sqlite_that_changes_nothing_passes() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::url(&url(&folder)).unwrap();
        passed(&the_sane_one(target, true).await, &[], &[]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_on_this_machine_has_its_clock() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::url(&url(&folder)).unwrap();
        mutants::fails_by_the_clock(target, Mutant::ClockAhead).await;
    }
}
