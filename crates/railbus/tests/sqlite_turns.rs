//! Writers of one file, each with a connection of its own: all get their turn, however many there
//! are and however soon each begins anew.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{bus::Bus, event::Event};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
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
