//! A server that is away: one request looks for it, for all that wait.

use super::{
    super::{
        line::Gather,
        request::{Limits, ROOM, TRIED_FOR},
    },
    line::{LIMITS, settle},
};
use crate::error::{Error, ErrorKind};
use std::sync::Arc;
use tokio::{sync::Semaphore, task::JoinSet};

/// A line in front of a server that is away; each request waits for a permit, and looks for the server
/// first if `looks`.
fn nobody_there(looks: bool) -> (Gather<usize>, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let gather = Gather::new(
        LIMITS,
        |item| *item,
        move |items: Vec<usize>| {
            let open = Arc::clone(&open);
            async move {
                open.acquire().await.unwrap().forget();
                let away = Error::new(ErrorKind::Unavailable, "publish", "nobody there");
                let away = if looks { away.with(TRIED_FOR, "1s") } else { away };
                vec![Err(away); items.len()]
            }
        },
    );
    (gather, gate)
}

#[tokio::test]
async fn what_waits_behind_a_request_that_looked_for_its_server_in_vain_fails_with_it() {
    // A connection that breaks is another thing: the next may work.
    for (looks, requests, fail) in [(true, 1, 30), (false, 2, 11)] {
        let (gather, gate) = nobody_there(looks);
        let mut all = JoinSet::new();
        for n in 0..30 {
            let gather = gather.clone();
            all.spawn(async move { gather.put(vec![n]).await.remove(0) });
            settle().await;
        }
        // The first goes alone, the others by tens.
        gate.add_permits(requests);
        settle().await;
        let failed =
            std::iter::from_fn(|| all.try_join_next()).filter(|r| r.as_ref().unwrap().is_err());
        assert_eq!(failed.count(), fail, "looks for it: {looks}");
    }
}

#[tokio::test]
async fn what_waits_for_room_fails_with_it_too() {
    let (gather, gate) = nobody_there(true);
    let mut all = JoinSet::new();
    // The second fills all the room there is.
    let items = |n: usize| if n == 1 { vec![0; ROOM as usize] } else { vec![0] };
    for n in 0..30 {
        let gather = gather.clone();
        all.spawn(async move { gather.put(items(n)).await.pop() });
        settle().await;
    }
    gate.add_permits(1);
    settle().await;
    let ended: Vec<_> = std::iter::from_fn(|| all.try_join_next()).collect();
    assert_eq!(ended.len(), 30, "one looked for the server, for all");
    // Later it is looked for again.
    let again = tokio::spawn(async move { gather.put(vec![0]).await.len() });
    settle().await;
    assert!(!again.is_finished());
    gate.add_permits(1);
    assert_eq!(again.await.unwrap(), 1);
}

#[tokio::test]
async fn what_waits_goes_with_the_other_request_if_that_has_a_connection() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let gather = Gather::new(
        Limits { flights: 2, ..LIMITS },
        |item| *item,
        move |items: Vec<usize>| {
            let open = Arc::clone(&open);
            async move {
                open.acquire().await.unwrap().forget();
                let away = Error::new(ErrorKind::Unavailable, "publish", "no connection left");
                match items[0] {
                    1 => vec![Err(away.with(TRIED_FOR, "1s")); items.len()],
                    _ => vec![Ok(()); items.len()],
                }
            }
        },
    );
    let mut all = JoinSet::new();
    for n in 1..=9 {
        let gather = gather.clone();
        all.spawn(async move { gather.put(vec![n]).await.remove(0) });
        settle().await;
    }
    gate.add_permits(9);
    let ended = all.join_all().await;
    assert_eq!(ended.iter().filter(|result| result.is_err()).count(), 1, "{ended:?}");
}
