//! What is leased, looked at without the engine.

use super::{keyed, stores::Store};
use railbus::{
    ErrorKind, Event,
    backend::{Backend, Leased, Order, Settle, Source, Start, Subscribe, Verdict},
    predicate::Interest,
};
use std::{sync::Arc, time::Duration};

const LONG: Duration = Duration::from_secs(30);

/// A member of the group "g".
async fn member(backend: &Arc<dyn Backend>, order: Order, lease: Duration) -> Arc<dyn Source> {
    let request = Subscribe {
        group: Some("g".into()),
        interest: Interest::all(),
        start: Default::default(),
        lease,
        order,
    };
    backend.subscribe(request).await.unwrap()
}

async fn publish(backend: &Arc<dyn Backend>, events: &[(&str, &str)]) {
    let event = |(id, key): &(&str, &str)| {
        let event = Event::new("a").id(id);
        if key.is_empty() { event } else { event.key(*key) }.payload(0).into()
    };
    let batch: Vec<_> = events.iter().map(event).collect();
    for published in backend.publish(&batch).await {
        published.unwrap();
    }
}

fn ids(leased: &[Leased]) -> Vec<&str> {
    leased.iter().map(|l| l.event.as_ref().unwrap().id()).collect()
}

async fn settle(source: &Arc<dyn Source>, leased: &Leased, verdict: Verdict) {
    let settle = [Settle::new(leased.receipt.clone(), verdict)];
    source.settle(&settle).await.remove(0).unwrap();
}

/// Takes the next that comes and settles it.
async fn acked(source: &Arc<dyn Source>, store: &Store) -> String {
    let next = tokio::time::timeout(LONG / 2, source.fetch(1)).await;
    let next = next.unwrap_or_else(|_| panic!("nothing comes {store}")).unwrap();
    settle(source, &next[0], Verdict::Ack).await;
    next[0].event.as_ref().unwrap().id().to_owned()
}

const NOW: Verdict = Verdict::Nack { delay: Duration::ZERO };

#[railbus::test]
async fn one_event_of_each_key_is_leased_whoever_asks_and_all_without_a_key() {
    for store in Store::that(keyed) {
        let backend = store.backend().await;
        let (one, two) =
            (member(&backend, Order::ByKey, LONG).await, member(&backend, Order::Any, LONG).await);
        let (a, b) = ("a", "b");
        publish(&backend, &[("1", a), ("2", a), ("3", b), ("4", ""), ("5", a), ("6", "")]).await;
        let first = one.fetch(2).await.unwrap();
        assert_eq!(ids(&first), ["1", "3"], "{store}");
        // A member that did not ask for it keeps the order of those who did.
        assert_eq!(ids(&two.fetch(10).await.unwrap()), ["4", "6"], "{store}");
        settle(&one, &first[0], NOW).await;
        let again = two.fetch(10).await.unwrap();
        assert_eq!((ids(&again), again[0].attempt), (vec!["1"], 2), "{store}");
        settle(&two, &again[0], Verdict::Ack).await;
        let next = one.fetch(10).await.unwrap();
        assert_eq!(ids(&next), ["2"], "{store}");
        settle(&one, &next[0], Verdict::Release { delay: Duration::ZERO }).await;
        assert_eq!(ids(&one.fetch(10).await.unwrap()), ["2"], "{store}");
    }
}

#[railbus::test]
async fn a_nack_with_a_delay_holds_its_key_until_it_is_due_again() {
    for store in Store::that(keyed) {
        let backend = store.backend().await;
        let source = member(&backend, Order::ByKey, LONG).await;
        publish(&backend, &[("1", "a"), ("2", "a"), ("3", "b")]).await;
        let first = source.fetch(10).await.unwrap();
        assert_eq!(ids(&first), ["1", "3"], "{store}");
        settle(&source, &first[0], Verdict::Nack { delay: Duration::from_millis(150) }).await;
        settle(&source, &first[1], Verdict::Ack).await;
        // The next that comes is the one that was held back.
        let next = source.fetch(10).await.unwrap();
        assert_eq!((ids(&next), next[0].attempt), (vec!["1"], 2), "{store}");
    }
}

#[railbus::test]
async fn what_is_given_back_with_a_delay_holds_its_key_also_before_what_is_published_later() {
    for store in Store::that(keyed) {
        let backend = store.backend().await;
        let source = member(&backend, Order::ByKey, LONG).await;
        let short = Duration::from_millis(50);
        for (delay, [first, behind, other]) in [(LONG, ["1", "2", "3"]), (short, ["4", "5", "6"])] {
            publish(&backend, &[(first, first)]).await;
            let leased = source.fetch(10).await.unwrap();
            settle(&source, &leased[0], Verdict::Release { delay }).await;
            publish(&backend, &[(behind, first), (other, "")]).await;
            if delay == LONG {
                assert_eq!(ids(&source.fetch(10).await.unwrap()), [other], "{store}");
                continue;
            }
            let mut came = Vec::new();
            while came.len() < 3 {
                came.push(acked(&source, &store).await);
            }
            came.retain(|id| id != other);
            assert_eq!(came, [first, behind], "{store}");
        }
    }
}

#[railbus::test]
async fn of_two_events_of_a_key_that_are_due_again_one_comes() {
    for store in Store::that(keyed) {
        let backend = store.backend().await;
        let before = member(&backend, Order::Any, LONG).await;
        publish(&backend, &[("1", "a"), ("2", "a")]).await;
        let leased = before.fetch(10).await.unwrap();
        assert_eq!(ids(&leased), ["1", "2"], "{store}");
        let source = member(&backend, Order::ByKey, LONG).await;
        for one in &leased {
            settle(&before, one, NOW).await;
        }
        for id in ["1", "2"] {
            assert_eq!(acked(&source, &store).await, id, "{store}");
        }
    }
}

#[railbus::test]
async fn what_was_handed_out_before_comes_before_what_is_due_for_the_first_time() {
    for store in Store::that(keyed) {
        let backend = store.backend().await;
        let source = member(&backend, Order::ByKey, LONG).await;
        let delay = Duration::from_millis(50);
        let delayed = Event::new("a").id("delayed").key("a").delay(delay).payload(0).into();
        backend.publish(&[delayed]).await.remove(0).unwrap();
        publish(&backend, &[("begun", "a")]).await;
        let leased = source.fetch(10).await.unwrap();
        assert_eq!(ids(&leased), ["begun"], "{store}");
        settle(&source, &leased[0], Verdict::Nack { delay }).await;
        // sleep: both are due when the next claim looks.
        tokio::time::sleep(delay * 4).await;
        for id in ["begun", "delayed"] {
            assert_eq!(acked(&source, &store).await, id, "{store}");
        }
    }
}

#[railbus::test]
async fn a_lease_that_ran_out_holds_its_key_and_its_late_settlement_is_refused() {
    for store in Store::that(keyed) {
        let backend = store.backend().await;
        let dies = member(&backend, Order::ByKey, Duration::from_millis(120)).await;
        publish(&backend, &[("1", "a"), ("2", "a")]).await;
        let lost = dies.fetch(10).await.unwrap();
        let lives = member(&backend, Order::ByKey, LONG).await;
        let again = lives.fetch(10).await.unwrap();
        assert_eq!((ids(&again), again[0].attempt, again[0].lost), (vec!["1"], 2, true), "{store}");
        let late = [Settle::new(lost[0].receipt.clone(), Verdict::Ack)];
        let refused = dies.settle(&late).await.remove(0).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Stale, "{store}");
        publish(&backend, &[("3", "b")]).await;
        let other = lives.fetch(10).await.unwrap();
        assert_eq!(ids(&other), ["3"], "the stale settlement let the key go {store}");
        settle(&lives, &again[0], Verdict::Ack).await;
        assert_eq!(ids(&lives.fetch(10).await.unwrap()), ["2"], "{store}");
    }
}

#[railbus::test]
async fn a_group_can_ask_for_the_order_while_some_of_its_events_are_leased_and_others_wait() {
    for store in Store::that(keyed) {
        let backend = store.backend().await;
        let before = member(&backend, Order::Any, LONG).await;
        publish(&backend, &[("1", "a"), ("2", "a"), ("3", "a"), ("4", "b"), ("5", "b")]).await;
        let leased = before.fetch(2).await.unwrap();
        assert_eq!(ids(&leased), ["1", "2"], "{store}");
        let source = member(&backend, Order::ByKey, LONG).await;
        let next = source.fetch(10).await.unwrap();
        assert_eq!(ids(&next), ["4"], "{store}");
        settle(&before, &leased[1], Verdict::Ack).await;
        settle(&before, &leased[0], NOW).await;
        assert_eq!(ids(&source.fetch(10).await.unwrap()), ["1"], "{store}");
        settle(&source, &next[0], Verdict::Ack).await;
        assert_eq!(ids(&source.fetch(10).await.unwrap()), ["5"], "{store}");
    }
}

#[railbus::test]
async fn what_is_replayed_keeps_the_order_again() {
    for store in Store::that(keyed) {
        let backend = store.backend().await;
        if backend.capability().replay != railbus::backend::Replay::Time {
            continue;
        }
        let source = member(&backend, Order::ByKey, LONG).await;
        publish(&backend, &[("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")]).await;
        let mut seen = Vec::new();
        for round in 0..2 {
            while seen.len() < 4 * (round + 1) {
                let leased = source.fetch(10).await.unwrap();
                let mut keys: Vec<_> =
                    leased.iter().map(|l| l.event.as_ref().unwrap().key().unwrap()).collect();
                keys.dedup();
                assert_eq!(keys.len(), leased.len(), "{store}");
                seen.extend(ids(&leased).into_iter().map(str::to_owned));
                for one in &leased {
                    settle(&source, one, Verdict::Ack).await;
                }
            }
            backend.keeper().unwrap().replay("g", Start::Oldest).await.unwrap();
        }
        let of_a: Vec<_> = seen.iter().filter(|id| *id != "3").collect();
        assert_eq!(of_a, ["1", "2", "4", "1", "2", "4"], "{store}");
    }
}
