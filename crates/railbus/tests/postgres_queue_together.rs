//! What meets in a queue: replays and members, members and whoever opens their group, dead letters
//! and runs.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    backend::{
        Backend, Leased, Order, Outgoing, Receipt, Settle, Source, Start, Subscribe, Tally, Verdict,
    },
    backends,
    delivery::End,
    event::Event,
    options::Options,
    predicate::{Interest, event_type},
};
use railbus_testbed::{Database, Postgres};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio_postgres::{Client, NoTls};

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

type Queue = Arc<dyn Backend>;

async fn open(database: &Database<'_>) -> Queue {
    let url = database.url("postgres-queue");
    backends::open(Options::parse(&url).unwrap()).await.unwrap()
}

async fn member(queue: &Queue, interest: Interest, order: Order) -> Arc<dyn Source> {
    let (group, start, lease) = (Some("g".to_owned()), Start::Oldest, Duration::from_secs(60));
    queue.subscribe(Subscribe { group, interest, start, lease, order }).await.unwrap()
}

/// A member of whoever wants all, with a lease of so many seconds.
async fn member_for(queue: &Queue, seconds: u64) -> Arc<dyn Source> {
    let (group, interest, start) = (Some("g".to_owned()), Interest::all(), Start::Oldest);
    let (lease, order) = (Duration::from_secs(seconds), Order::default());
    queue.subscribe(Subscribe { group, interest, start, lease, order }).await.unwrap()
}

async fn publish(queue: &Queue, events: impl IntoIterator<Item = Event>) {
    let all: Vec<Outgoing> = events.into_iter().map(Outgoing::from).collect();
    assert!(queue.publish(&all).await.iter().all(Result::is_ok));
}

async fn fetch(source: &Arc<dyn Source>, most: usize) -> Vec<Leased> {
    let fetching = tokio::time::timeout(Duration::from_secs(60), source.fetch(most));
    fetching.await.expect("nothing came").unwrap()
}

fn id(leased: &Leased) -> String {
    leased.event.as_ref().unwrap().id().to_owned()
}

async fn settle(source: &Arc<dyn Source>, receipts: &[Receipt], verdict: Verdict) {
    let all: Vec<_> = receipts.iter().map(|r| Settle::new(r.clone(), verdict.clone())).collect();
    let settled = source.settle(&all).await;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
}

/// Fetches and acks so many events, never more than `most` at once; counts each.
async fn take(source: &Arc<dyn Source>, all: usize, most: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    while seen.values().sum::<usize>() < all {
        let leased = fetch(source, most).await;
        leased.iter().for_each(|l| *seen.entry(id(l)).or_default() += 1);
        let receipts: Vec<_> = leased.into_iter().map(|l| l.receipt).collect();
        settle(source, &receipts, Verdict::Ack).await;
    }
    seen
}

/// Acks all, but for one that becomes a dead letter.
async fn bury(source: &Arc<dyn Source>, all: usize, dead: &str) {
    let mut left = all;
    while left > 0 {
        let leased = fetch(source, 1_000).await;
        left -= leased.len();
        for one in leased {
            let mut settle = Settle::new(one.receipt.clone(), Verdict::Ack);
            if id(&one) == dead {
                settle.ended = vec![(Arc::from("s"), End::Dead("no".into()))];
            }
            assert!(source.settle(&[settle]).await[0].is_ok());
        }
    }
}

async fn connect(database: &Database<'_>) -> Client {
    let url = database.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn until(database: &Database<'_>, is_so: &str) {
    let asking = async {
        while database.psql(&format!("SELECT {is_so}")).unwrap().trim() != "t" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect(is_so);
}

/// Whether so many sessions of this database wait for a lock.
async fn until_waiting(database: &Database<'_>, count: usize) {
    let waiting = format!(
        "count(*) >= {count} FROM pg_stat_activity WHERE datname = current_database() \
         AND wait_event_type = 'Lock'"
    );
    until(database, &waiting).await;
}

async fn lag(queue: &Queue) -> u64 {
    queue.keeper().unwrap().groups().await.unwrap()[0].lag
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_passes_a_dead_letter_that_was_settled_before_it_came_there() {
    let database = SERVER.database().unwrap();
    let queue = open(&database).await;
    let source = member(&queue, Interest::all(), Order::ByKey).await;
    let event = |n: usize| Event::new("t").id(n.to_string()).key(format!("k{n}")).payload(1);
    publish(&queue, (0..500).map(event)).await;
    bury(&source, 500, "400").await;
    let keeper = queue.keeper().unwrap();
    assert_eq!(keeper.replay("g", Start::Oldest).await.unwrap(), 500);
    assert_eq!(lag(&queue).await, 500);
    let seen = take(&source, 500, 10).await;
    assert_eq!((seen.len(), lag(&queue).await), (500, 0));
    // Again, and while the first is under way.
    assert_eq!(keeper.replay("g", Start::Oldest).await.unwrap(), 500);
    take(&source, 30, 10).await;
    assert_eq!(keeper.replay("g", Start::Oldest).await.unwrap(), 30);
    assert_eq!((take(&source, 500, 10).await.len(), lag(&queue).await), (500, 0));
    queue.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_hands_out_once_what_a_narrower_member_settles_first() {
    let database = SERVER.database().unwrap();
    let queue = open(&database).await;
    let all = member(&queue, Interest::all(), Order::default()).await;
    let event = |n: usize| Event::new(if n == 400 { "b" } else { "a" }).id(n.to_string());
    publish(&queue, (0..500).map(|n| event(n).payload(1))).await;
    bury(&all, 500, "400").await;
    assert_eq!(queue.keeper().unwrap().replay("g", Start::Oldest).await.unwrap(), 500);
    let (a, b) = (event_type("a").interest(), event_type("b").interest());
    let b = member(&queue, b, Order::default()).await;
    assert_eq!(take(&b, 1, 1).await.len(), 1);
    let a = member(&queue, a, Order::default()).await;
    assert_eq!(take(&a, 499, 10).await.len(), 499);
    assert_eq!(lag(&queue).await, 0);
    queue.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_a_replay_begins_is_not_handed_out_again_by_it() {
    let database = SERVER.database().unwrap();
    let queue = open(&database).await;
    let source = member(&queue, Interest::all(), Order::default()).await;
    publish(&queue, (0..20).map(|n| Event::new("t").id(n.to_string()).payload(1))).await;
    let leased = fetch(&source, 20).await;
    let receipts: Vec<_> = leased.iter().map(|l| l.receipt.clone()).collect();
    settle(&source, &receipts[..10], Verdict::Ack).await;
    assert_eq!(queue.keeper().unwrap().replay("g", Start::Oldest).await.unwrap(), 10);
    settle(&source, &receipts[10..], Verdict::Ack).await;
    publish(&queue, [Event::new("t").id("last").payload(1)]).await;
    let seen = take(&source, 11, 3).await;
    assert_eq!(seen.len(), 11, "{seen:?}");
    assert!(seen.contains_key("last"));
    queue.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_turned_to_the_order_of_keys_while_its_members_settle() {
    let settle = "SELECT railbus.settle(1, ARRAY[$1::bigint], ARRAY['{[1,6)}'], \
                  ARRAY[2::smallint], ARRAY[false])";
    let extend = "SELECT railbus.extend(1, ARRAY[$1::bigint], ARRAY['{[1,6)}'], 60000000)";
    for under_way in [settle, extend] {
        let database = SERVER.database().unwrap();
        let queue = open(&database).await;
        let source = member(&queue, Interest::all(), Order::default()).await;
        publish(&queue, (0..10).map(|n| Event::new("t").key("k").payload(n))).await;
        let leased = fetch(&source, 5).await;
        let mut client = connect(&database).await;
        let transaction = client.transaction().await.unwrap();
        let fence = leased[0].receipt.fence.cast_signed();
        transaction.query(under_way, &[&fence]).await.unwrap();
        let other = open(&database).await;
        let turning = tokio::spawn(async move {
            let source = member(&other, Interest::all(), Order::ByKey).await;
            (other, source)
        });
        until_waiting(&database, 1).await;
        transaction.commit().await.unwrap();
        let (other, keyed) = turning.await.unwrap();
        if under_way == extend {
            let receipts: Vec<_> = leased.into_iter().map(|l| l.receipt).collect();
            self::settle(&source, &receipts, Verdict::Ack).await;
        }
        assert_eq!(take(&keyed, 5, 5).await.len(), 5);
        assert_eq!(lag(&queue).await, 0);
        for queue in [queue, other] {
            queue.close(Duration::from_secs(5)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_once_a_group_wants_it_is_not_passed_by_a_claim_that_began_before() {
    let database = SERVER.database().unwrap();
    let queue = open(&database).await;
    let a = event_type("a").interest();
    let old = member(&queue, a, Order::default()).await;
    let mut client = connect(&database).await;
    let transaction = client.transaction().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(railbus.lock_class(), 0)";
    transaction.query(lock, &[]).await.unwrap();
    let claiming = Arc::clone(&old);
    let claimed = tokio::spawn(async move { fetch(&claiming, 10).await });
    until_waiting(&database, 1).await;
    // Another begins to want it, and then it is published.
    let both = event_type("a").interest();
    let mut both = both;
    both.add(&event_type("b").interest());
    let (thought, wanted) = (
        database.psql("SELECT interest FROM railbus.groups").unwrap().trim().to_owned(),
        serde_json::to_string(&both).unwrap(),
    );
    let widen = format!(
        "SELECT railbus.open_group('g', '{thought}', '{wanted}', ARRAY['=a','=b'], \
         ARRAY[NULL,NULL]::text[], false, 0, 0)"
    );
    database.psql(&widen).unwrap();
    publish(&queue, [Event::new("b").id("b").payload(1), Event::new("a").id("a").payload(1)]).await;
    transaction.commit().await.unwrap();
    assert_eq!(id(&claimed.await.unwrap()[0]), "a");
    let new = member(&queue, event_type("b").interest(), Order::default()).await;
    assert_eq!(id(&fetch(&new, 10).await[0]), "b");
    queue.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_released_with_a_delay_holds_its_key() {
    let database = SERVER.database().unwrap();
    let queue = open(&database).await;
    let source = member(&queue, Interest::all(), Order::ByKey).await;
    let event = |id: &str, key: &str| Event::new("t").id(id).key(key).payload(1);
    publish(&queue, [event("first", "k")]).await;
    let first = fetch(&source, 10).await;
    let delay = Duration::from_millis(300);
    settle(&source, &[first[0].receipt.clone()], Verdict::Release { delay }).await;
    publish(&queue, [event("second", "k"), event("other", "o")]).await;
    for expected in ["other", "first", "second"] {
        let leased = fetch(&source, 10).await;
        assert_eq!(leased.iter().map(id).collect::<Vec<_>>(), [expected]);
        settle(&source, &[leased[0].receipt.clone()], Verdict::Ack).await;
    }
    queue.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_begins_while_a_dead_letter_is_written_counts_it() {
    let database = SERVER.database().unwrap();
    let queue = open(&database).await;
    let source = member(&queue, Interest::all(), Order::default()).await;
    publish(&queue, [Event::new("t").payload(1)]).await;
    let fence = fetch(&source, 1).await[0].receipt.fence.cast_signed();
    let mut client = connect(&database).await;
    let transaction = client.transaction().await.unwrap();
    let hold = "SELECT seq FROM railbus.hold(1, ARRAY[$1::bigint], ARRAY[1::bigint])";
    let seq: i64 = transaction.query_one(hold, &[&fence]).await.unwrap().get(0);
    let resolve =
        "SELECT railbus.resolve(1, $1, 1, $2, 0, 0, 60000000, 1, 4::smallint, false, NULL, NULL)";
    transaction.query(resolve, &[&fence, &seq]).await.unwrap();
    let other = Arc::clone(&queue);
    let groups = [("g".to_owned(), Interest::all())];
    let begin =
        tokio::spawn(async move { other.accounts().unwrap().begin(&groups).await.unwrap() });
    until_waiting(&database, 1).await;
    transaction.commit().await.unwrap();
    let run = begin.await.unwrap();
    // Settled before the run began: it is not the run's.
    assert_eq!(queue.accounts().unwrap().tally(run).await.unwrap(), Tally::default());
    queue.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_fell_behind_the_log_is_moved_on_and_nothing_published_is_lost() {
    let database = SERVER.database().unwrap();
    let queue = open(&database).await;
    let source = member(&queue, Interest::all(), Order::default()).await;
    for n in 0..5 {
        publish(&queue, [Event::new("t").id(n.to_string()).payload(1)]).await;
    }
    assert_eq!(take(&source, 5, 10).await.len(), 5);
    // As in a copy of the tables that came without it, once retention has removed what was there.
    let sweep = "DELETE FROM railbus.events; DELETE FROM railbus.batches; \
                 DELETE FROM railbus.log WHERE high < (SELECT max(high) FROM railbus.log)";
    database.psql(sweep).unwrap();
    database.psql("SELECT setval('railbus.transactions', 1, false)").unwrap();
    for n in 5..8 {
        publish(&queue, [Event::new("t").id(n.to_string()).payload(1)]).await;
    }
    let seen = take(&source, 3, 10).await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["5", "6", "7"]);
    publish(&queue, [Event::new("t").id("8").payload(1)]).await;
    assert_eq!(take(&source, 1, 10).await.keys().collect::<Vec<_>>(), ["8"]);
    let ahead = "(SELECT last_value FROM railbus.transactions) > 5";
    until(&database, ahead).await;
    queue.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_piles_up_for_a_member_that_is_away_is_passed_by_piece_by_piece() {
    let database = SERVER.database().unwrap();
    let queue = open(&database).await;
    for order in [Order::default(), Order::ByKey] {
        member(&queue, Interest::all(), order).await;
        let a = member(&queue, event_type("a").interest(), order).await;
        publish(&queue, (0..9_000).map(|n| Event::new("b").id(format!("b{n}")).payload(n))).await;
        publish(&queue, [Event::new("a").id("tried").payload(1)]).await;
        let tried = fetch(&a, 10).await;
        assert_eq!(tried.iter().map(id).collect::<Vec<_>>(), ["tried"]);
        let delay = Duration::ZERO;
        settle(&a, &[tried[0].receipt.clone()], Verdict::Nack { delay }).await;
        publish(&queue, [Event::new("a").id("new").payload(1)]).await;
        assert_eq!(take(&a, 2, 10).await.into_keys().collect::<Vec<_>>(), ["new", "tried"]);
        let b = member(&queue, event_type("b").interest(), order).await;
        assert_eq!(take(&b, 9_000, 1_000).await.len(), 9_000);
        assert_eq!(lag(&queue).await, 0);
    }
    queue.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_by_the_servers_clock_however_far_the_clients_clocks_are_from_it() {
    for days in [-1, 1] {
        let database = SERVER.database().unwrap();
        let queue = open(&database).await;
        // All clients are as far from it as one whose clock has jumped.
        let set = format!(
            "CREATE OR REPLACE FUNCTION railbus.now_micros() RETURNS bigint LANGUAGE sql VOLATILE AS \
             $$ SELECT (extract(epoch FROM clock_timestamp() + interval '{days} days') * 1000000)::bigint $$"
        );
        database.psql(&set).unwrap();
        let [one, other] = [member_for(&queue, 1).await, member_for(&queue, 1).await];
        publish(&queue, [Event::new("t").id("e").payload(1)]).await;
        let held = fetch(&one, 1).await.remove(0).receipt;
        let fetching = tokio::spawn({
            let other = Arc::clone(&other);
            async move { fetch(&other, 1).await }
        });
        for _ in 0..8 {
            // sleep: twice as long as a lease, in all.
            tokio::time::sleep(Duration::from_millis(250)).await;
            settle(&one, std::slice::from_ref(&held), Verdict::Extend { tries: 0 }).await;
            assert!(!fetching.is_finished(), "{days}: two have it");
        }
        let again = fetching.await.unwrap().remove(0);
        assert_eq!((again.attempt, again.lost), (2, true), "{days}");
        let late = one.settle(&[Settle::new(held, Verdict::Ack)]).await.remove(0);
        assert!(late.is_err(), "{days}: its lease is over");
        settle(&other, &[again.receipt], Verdict::Nack { delay: Duration::from_millis(100) }).await;
        assert_eq!(take(&other, 1, 1).await.into_keys().collect::<Vec<_>>(), ["e"]);
        queue.close(Duration::from_secs(5)).await.unwrap();
    }
}
