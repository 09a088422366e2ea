//! What goes together, what waits, and what is lost by nobody.

use super::super::{line::*, request::*};
use crate::error::{Error, ErrorKind};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, yield_now},
};

pub(super) const LIMITS: Limits = Limits { items: 10, weight: 1_000, flights: 1, callers: 16 };

/// Longer than any of it takes.
const LONG: Duration = Duration::from_secs(60);

/// Of two who publish at once.
const ROUNDS: usize = 100_000;

type Sent = Arc<Mutex<Vec<Vec<usize>>>>;

/// A line whose requests wait for a permit each, and what they held.
fn held(limits: Limits) -> (Gather<usize>, Arc<Semaphore>, Sent) {
    let (gate, sent) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (open, seen) = (Arc::clone(&gate), Arc::clone(&sent));
    let gather = Gather::new(
        limits,
        |item| *item,
        move |items: Vec<usize>| {
            let (open, seen) = (Arc::clone(&open), Arc::clone(&seen));
            async move {
                seen.lock().unwrap().push(items.clone());
                open.acquire().await.unwrap().forget();
                let odd = |n| Error::new(ErrorKind::InvalidEvent, "publish", format!("{n}"));
                items.iter().map(|n| if n % 2 == 0 { Ok(()) } else { Err(odd(n)) }).collect()
            }
        },
    );
    (gather, gate, sent)
}

/// Lets all tasks run until they wait.
pub(super) async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[tokio::test]
async fn requests_that_nobody_polls_hold_up_nobody() {
    let (gather, open, sent) = held(Limits { flights: 2, ..LIMITS });
    let mut kept = [2, 4].map(|n| Box::pin(gather.put(vec![n])));
    for put in &mut kept {
        assert!(futures_util::poll!(put).is_pending());
    }
    open.add_permits(3);
    assert!(gather.put(vec![6]).await[0].is_ok());
    assert_eq!(*sent.lock().unwrap(), [[2], [4], [6]]);
    for put in kept {
        assert!(put.await[0].is_ok(), "who comes back for it has its result");
    }
}

#[tokio::test]
async fn what_waits_is_bounded_whoever_gives_up() {
    let (gather, open, sent) = held(LIMITS);
    let first = tokio::spawn({
        let gather = gather.clone();
        async move { gather.put(vec![2]).await }
    });
    while sent.lock().unwrap().is_empty() {
        yield_now().await;
    }
    let large = ROOM as usize * ROOM_UNIT;
    for _ in 0..100 {
        let mut put = Box::pin(gather.put(vec![large / 4]));
        assert!(futures_util::poll!(&mut put).is_pending());
    }
    assert_eq!(
        gather.0.line().queue.waiting.len(),
        4,
        "whoever gave up before there was room is gone"
    );
    open.add_permits(100);
    assert!(first.await.unwrap()[0].is_ok());
}

#[tokio::test]
async fn one_that_is_alone_is_sent_in_its_own_task() {
    let (gather, gate, _) = held(LIMITS);
    gate.add_permits(1);
    // Without another task there is nothing to yield to: one poll is enough.
    let results = futures_util::poll!(Box::pin(gather.put(vec![2, 3])));
    let Poll::Ready(results) = results else { panic!("it waited") };
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().message(), "3");
}

#[tokio::test]
async fn what_comes_meanwhile_goes_together_and_each_gets_its_own_result() {
    let (gather, gate, sent) = held(LIMITS);
    let mut callers = JoinSet::new();
    for n in 0..16 {
        let gather = gather.clone();
        callers.spawn(async move { (n, gather.put(vec![n]).await) });
    }
    settle().await;
    gate.add_permits(3);
    while let Some(done) = callers.join_next().await {
        let (n, results) = done.unwrap();
        assert_eq!((results.len(), results[0].is_ok()), (1, n % 2 == 0));
    }
    let sizes: Vec<_> = sent.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 10, 5]);
    let all: HashSet<_> = sent.lock().unwrap().concat().into_iter().collect();
    assert_eq!(all.len(), 16);
}

#[tokio::test]
async fn requests_are_bounded_by_weight_and_one_that_is_too_heavy_goes_alone() {
    let (gather, gate, sent) = held(Limits { weight: 100, ..LIMITS });
    let puts = [2, 60, 30, 20, 500, 4].map(|n| gather.put(vec![n]));
    let mut all = futures_util::future::join_all(puts);
    assert!(futures_util::poll!(&mut all).is_pending());
    gate.add_permits(100);
    all.await;
    let sent = sent.lock().unwrap();
    assert_eq!(*sent, [vec![2], vec![60, 30], vec![20], vec![500], vec![4]]);
}

#[tokio::test]
async fn a_caller_that_is_gone_holds_nobody_up_and_loses_nothing() {
    let (gather, gate, sent) = held(LIMITS);
    let mut first = Box::pin(gather.put(vec![2]));
    assert!(futures_util::poll!(&mut first).is_pending());
    let mut second = Box::pin(gather.put(vec![4]));
    assert!(futures_util::poll!(&mut second).is_pending());
    let third = gather.put(vec![6]);
    drop(first);
    drop(second);
    gate.add_permits(2);
    assert!(third.await[0].is_ok());
    assert_eq!(*sent.lock().unwrap(), [vec![2], vec![4, 6]]);
    settle().await;
    assert_eq!(gather.0.line().queue.flying, 0);
}

#[tokio::test]
async fn a_request_that_panics_takes_its_own_caller_alone() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let gather = Gather::new(
        LIMITS,
        |_: &usize| 1,
        move |items: Vec<usize>| {
            let first = count.fetch_add(1, SeqCst) == 0;
            async move {
                yield_now().await;
                assert!(!first, "the first request panics");
                vec![Ok(()); items.len()]
            }
        },
    );
    let (one, other) = (gather.clone(), gather.clone());
    let first = tokio::spawn(async move { one.put(vec![1]).await });
    settle_once().await;
    let second = tokio::spawn(async move { other.put(vec![2]).await });
    assert!(first.await.is_err());
    assert!(second.await.unwrap()[0].is_ok());
}

async fn settle_once() {
    yield_now().await;
}

#[tokio::test]
async fn a_request_that_panics_in_a_task_of_its_own_tells_its_caller() {
    let gather = Gather::new(
        LIMITS,
        |_: &usize| 1,
        |items: Vec<usize>| async move {
            yield_now().await;
            assert_ne!(items, [1], "the first request panics");
            vec![Ok(()); items.len()]
        },
    );
    let mut first = Box::pin(gather.put(vec![1]));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(gather.put(vec![2]).await[0].is_ok());
    let told = first.await;
    assert_eq!(told[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn whose_request_was_taken_to_a_runtime_that_ends_is_told() {
    let (gather, _gate, _) = held(LIMITS);
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (staying, ending) = (runtime(), runtime());
    let (one, other) = (gather.clone(), gather);
    let first = staying.spawn(async move { one.put(vec![2, 4]).await });
    staying.block_on(settle());
    ending.spawn(async move { other.put(vec![6]).await });
    ending.block_on(settle());
    drop(ending);
    let told = staying.block_on(first).unwrap();
    assert_eq!(told.len(), 2);
    assert_eq!(told[1].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_behind_nobody() {
    let gather = Gather::new(
        LIMITS,
        |_: &usize| 1,
        |items: Vec<usize>| async move {
            yield_now().await;
            vec![Ok(()); items.len()]
        },
    );
    // On two threads: between looking for a place and waiting for one, the last may land. Once a
    // round, since whoever comes next would take along what waits.
    for n in 0..ROUNDS {
        let other = gather.clone();
        let other = tokio::spawn(async move { other.put(vec![n]).await });
        assert!(gather.put(vec![n]).await[0].is_ok());
        let other = tokio::time::timeout(LONG, other).await;
        assert!(other.expect("it waits, and nobody sends it").unwrap()[0].is_ok());
    }
}

#[test]
fn a_runtime_that_ends_cuts_off_those_that_wait_elsewhere() {
    let (gather, _gate, _) = held(LIMITS);
    let ending = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in [2, 6] {
        let first = gather.clone();
        ending.spawn(async move { first.put(vec![n]).await });
        ending.block_on(settle());
    }
    let staying = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let second = staying.spawn(async move { gather.put(vec![4]).await });
    staying.block_on(settle());
    drop(ending);
    let results = staying.block_on(second).unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_request_whose_runtime_ends_goes_on_where_somebody_waits_for_it() {
    let (gather, gate, sent) = held(LIMITS);
    let ending = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = gather.clone();
    ending.spawn(async move { first.put(vec![2]).await });
    ending.block_on(settle());
    let staying = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let second = staying.spawn(async move { gather.put(vec![4]).await });
    staying.block_on(settle());
    drop(ending);
    gate.add_permits(2);
    assert!(staying.block_on(second).unwrap()[0].is_ok());
    assert_eq!(*sent.lock().unwrap(), [[2], [4]]);
}

#[tokio::test]
async fn a_request_that_panics_leaves_those_that_wait_to_the_other_on_its_way() {
    let (gate, wait) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (open, go) = (Arc::clone(&gate), Arc::clone(&wait));
    let gather = Gather::new(
        Limits { flights: 2, ..LIMITS },
        |_: &usize| 1,
        move |items: Vec<usize>| {
            let (open, go) = (Arc::clone(&open), Arc::clone(&go));
            async move {
                let may = if items == [3] { open } else { go };
                may.acquire().await.unwrap().forget();
                assert_ne!(items, [3], "this one panics");
                vec![Ok(()); items.len()]
            }
        },
    );
    let mut all = JoinSet::new();
    // Two fly, the next goes by a task that sends what waits, and panics there.
    for n in [1, 2, 3, 4, 5] {
        let gather = gather.clone();
        all.spawn(async move { gather.put(vec![n]).await.remove(0) });
        settle().await;
        if n == 3 {
            wait.add_permits(1);
            settle().await;
        }
    }
    gate.add_permits(1);
    settle().await;
    wait.add_permits(2);
    let ended = all.join_all().await;
    assert_eq!(ended.iter().filter(|result| result.is_err()).count(), 1, "{ended:?}");
}

#[test]
fn a_runtime_that_ends_while_a_request_is_on_its_way_ends() {
    for workers in [0, 1] {
        let (over, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut builder = match workers {
                0 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = builder.worker_threads(workers.max(1)).build().unwrap();
            let (gather, _gate, sent) = held(LIMITS);
            runtime.spawn(async move { gather.put(vec![2]).await });
            runtime.block_on(async {
                while sent.lock().unwrap().is_empty() {
                    yield_now().await;
                }
            });
            drop(runtime);
            over.send(()).unwrap();
        });
        let limit = ended.recv_timeout(LONG);
        assert!(limit.is_ok(), "with {workers} workers");
    }
}

#[tokio::test]
async fn beside_a_request_of_many_callers_goes_no_other() {
    let (gather, open, sent) = held(Limits { items: 100, flights: 2, callers: 4, ..LIMITS });
    let mut all = JoinSet::new();
    let put = |all: &mut JoinSet<_>, items: Vec<usize>| {
        let gather = gather.clone();
        all.spawn(async move { gather.put(items).await })
    };
    let sizes = || sent.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>();
    for _ in 0..22 {
        put(&mut all, vec![2]);
    }
    settle().await;
    // Two are on their way; when they are back the others go, together.
    open.add_permits(2);
    settle().await;
    assert_eq!(sizes(), [1, 1, 20]);
    for _ in 0..3 {
        put(&mut all, vec![2]);
    }
    settle().await;
    assert_eq!(sizes(), [1, 1, 20], "there is a place, and they wait");
    open.add_permits(1);
    settle().await;
    assert_eq!(sizes(), [1, 1, 20, 3]);
    // However much it is, what one caller gives is one caller's.
    open.add_permits(1);
    settle().await;
    put(&mut all, vec![2; 50]);
    put(&mut all, vec![2]);
    settle().await;
    assert_eq!(sizes(), [1, 1, 20, 3, 50, 1]);
    open.add_permits(2);
    assert_eq!(all.join_all().await.len(), 27);
}
