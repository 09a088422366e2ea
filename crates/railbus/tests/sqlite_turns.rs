//! Writers of one file, each with a connection of its own: all get their turn, however many there
//! are and however soon each begins anew.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{bus::Bus, error::ErrorKind, event::Event};
use rusqlite::Connection;
use std::{
    env,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::sync::Barrier;

/// How many have the file open.
const WRITERS: usize = 24;

/// How often each must get its turn; who has had its turns goes on until all have.
const TURNS: usize = 40;

fn url(folder: &tempfile::TempDir, settings: &str) -> String {
    format!("sqlite:{}?{settings}", folder.path().join("events.db").display())
}

#[tokio::test(flavor = "multi_thread")]
async fn none_of_many_that_write_without_a_pause_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(&folder, "busy_timeout=1s");
    let through = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new(WRITERS));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let bus = Bus::open(&url).await.unwrap();
        let (through, barrier) = (Arc::clone(&through), Arc::clone(&barrier));
        writers.spawn(async move {
            barrier.wait().await;
            let (mut turns, mut refused) = (0, Vec::new());
            while through.load(SeqCst) < WRITERS {
                match bus.publish(Event::new("written").payload(writer)).await {
                    Ok(_) => turns += 1,
                    Err(e) => refused.push(e),
                }
                if turns + refused.len() == TURNS {
                    through.fetch_add(1, SeqCst);
                }
            }
            bus.close().await.unwrap();
            refused
        });
    }
    let refused: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    assert!(refused.is_empty(), "{} were refused: {}", refused.len(), refused[0]);
}

/// How many processes write, each by so many connections, so often.
const PROCESSES: [usize; 3] = [6, 4, 60];

#[test]
fn none_of_several_processes_that_write_without_a_pause_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let start = |_| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "a_process_that_writes", "--nocapture"]);
        command.env("RAILBUS_TEST_URL", url(&folder, "busy_timeout=1s"));
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let processes: Vec<_> = (0..PROCESSES[0]).map(start).collect();
    for process in processes {
        let ended = process.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    }
    let store = Connection::open(folder.path().join("events.db")).unwrap();
    let count = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
    let stored = store.query_row("SELECT count(*) FROM events", [], count).unwrap();
    assert_eq!(usize::try_from(stored), Ok(PROCESSES.iter().product()));
}

/// Started as a process of its own; alone it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_writes() {
    let Ok(url) = env::var("RAILBUS_TEST_URL") else { return };
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..PROCESSES[1] {
        let bus = Bus::open(&url).await.unwrap();
        writers.spawn(async move {
            for n in 0..PROCESSES[2] {
                bus.publish(Event::new("written").payload(n)).await.unwrap();
            }
            bus.close().await.unwrap();
        });
    }
    writers.join_all().await;
}

#[tokio::test]
async fn a_writer_that_comes_to_no_end_is_told_of_and_keeps_nobody_from_opening() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(&folder, "busy_timeout=10ms");
    let bus = Bus::open(&url).await.unwrap();
    let stuck = Connection::open(folder.path().join("events.db")).unwrap();
    stuck.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = bus.publish(Event::new("a").payload(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable());
    let hint = "end the process that keeps a transaction open, or raise busy_timeout";
    assert_eq!(error.advice(), Some(hint));
    let other = Bus::open(&url).await.unwrap();
    stuck.execute_batch("COMMIT").unwrap();
    for bus in [bus, other] {
        bus.publish(Event::new("a").payload(1)).await.unwrap();
        bus.close().await.unwrap();
    }
}
