//! The suite catches backends that only say that they do: mutants of each, told by the case that is
//! there for them, and by their side a wrapper that changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mutants;

use mutants::{HUNTED, Mutant, all_are_caught, the_sane_one};
use railbus::{
    backend::Backend,
    backends::memory::Memory,
    conformance::{CaseReport, Status},
};
use std::{collections::HashSet, sync::Arc};

#[test]
fn there_are_more_than_twenty_mutants() {
    let kinds: HashSet<_> = HUNTED.iter().map(|hunted| format!("{:?}", hunted.mutant())).collect();
    assert!(kinds.len() > 20, "{}", kinds.len());
    assert!(!kinds.contains(&format!("{:?}", Mutant::Sane)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_of_memory_is_caught() {
    // A memory for each, or one would stand in the way of another.
    all_are_caught(|| {
        static SHARED: std::sync::OnceLock<Memory> = std::sync::OnceLock::new();
        let memory: Arc<dyn Backend> = Arc::new(SHARED.get_or_init(Memory::default).connect());
        Box::pin(async { Ok(memory) })
    })
    .await;
}

/// Checks that all cases passed which one process can show on its own.
fn passed(reports: &[CaseReport], refused: &[&str], stored: bool) {
    for report in reports {
        let expected = match report.name {
            name if refused.contains(&name) => Status::Refused,
            // Nobody says how to start a process here, how to store bytes that are no event, or
            // where a server is.
            "kill -9" | "clocks apart" | "poison" | "wrong password" | "reconnect" | "reset"
            | "black hole" | "latency" | "server restarted" | "server killed" | "server paused" => {
                Status::NotRun
            }
            _ => Status::Passed,
        };
        assert_eq!(report.status, expected, "{report:?}, stored: {stored}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_of_memory_that_changes_nothing_passes() {
    let memory = Arc::new(Memory::default());
    let reports = the_sane_one(move || {
        let memory: Arc<dyn Backend> = Arc::new(memory.connect());
        Box::pin(async { Ok(memory) })
    });
    passed(&reports.await, &["late subscriber"], false);
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;
    use railbus::{backends, options::Options};

    fn open(folder: &tempfile::TempDir) -> impl Fn() -> backends::Opening + Clone + use<> {
        let url = format!("sqlite:{}", folder.path().join("events.db").display());
        move || Box::pin(backends::open(Options::parse(&url).unwrap()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_mutant_of_sqlite_is_caught() {
        let folder = tempfile::tempdir().unwrap();
        all_are_caught(open(&folder)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wrapper_of_sqlite_that_changes_nothing_passes() {
        let folder = tempfile::tempdir().unwrap();
        passed(&the_sane_one(open(&folder)).await, &[], true);
    }
}
