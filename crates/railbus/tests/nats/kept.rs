//! What is kept, for whom, and for how long.

use super::scene::{
    LEASE, ack, event, fetch, join, messages, number, open, publish, request, settle, take, with,
};
use railbus::{
    Bus, ErrorKind, Event, Reply, Retry,
    backend::{LetterFilter, Settle, Start, Verdict},
    delivery::{End, Try},
    event_type,
    predicate::Interest,
};
use railbus_testbed::Nats;
use std::{sync::Arc, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_published_again_is_stored_once_within_its_window() {
    let server = Nats::start().unwrap();
    for (setting, prefix, count) in
        [("duplicate_window=1m", "a", 1), ("duplicate_window=0s", "b", 2)]
    {
        let backend = open(&with(&server.url(), &format!("{setting}&prefix={prefix}"))).await;
        let same = Event::new("tick").id("same").payload(1);
        publish(&backend, std::slice::from_ref(&same)).await;
        publish(&backend, &[same]).await;
        assert_eq!(messages(&server.url(), prefix).await, count, "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_told_and_takes_more_once_something_is_settled() {
    let server = Nats::start().unwrap();
    let backend = open(&with(&server.url(), "max_bytes=100KiB")).await;
    let source = join(&backend, "g").await;
    let big = |n: u32| Event::new("big").payload(serde_json::json!([n, "x".repeat(8 << 10)]));
    let mut stored = 0;
    let full = loop {
        match backend.publish(&[big(stored).into()]).await.remove(0) {
            Ok(()) => stored += 1,
            Err(e) => break e,
        }
        assert!(stored < 100, "it is never full");
    };
    assert_eq!((full.kind(), full.is_retryable()), (ErrorKind::Full, true), "{full}");
    assert!(full.advice().unwrap().contains("max_bytes"), "{full:?}");
    // Nothing of it was lost, and nothing more is there.
    let all = take(&source, stored as usize).await;
    ack(&source, &all[..all.len() / 2]).await;
    publish(&backend, &[big(stored)]).await;
    ack(&source, &all[all.len() / 2..]).await;
    assert_eq!(take(&source, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_group_has_not_settled_is_kept_beyond_max_len() {
    let server = Nats::start().unwrap();
    let backend = open(&with(&server.url(), "max_len=100")).await;
    let source = join(&backend, "g").await;
    let many: Vec<_> = (0..2100).map(event).collect();
    publish(&backend, &many).await;
    assert_eq!(messages(&server.url(), "events").await, 2100);
    let taken = take(&source, 2100).await;
    let acks: Vec<_> =
        taken[1..].iter().map(|one| Settle::new(one.receipt.clone(), Verdict::Ack)).collect();
    assert!(source.settle(&acks).await.iter().all(Result::is_ok));
    let more: Vec<_> = (3000..5100).map(event).collect();
    publish(&backend, &more).await;
    // The first one is held still, and so are all behind it.
    assert_eq!(messages(&server.url(), "events").await, 4200);
    settle(&source, &taken[0], Verdict::Ack).await;
    let trimmed = async {
        // What was published since is not settled, and stays.
        for (all, n) in (7200..).step_by(3000).zip(1..) {
            let more: Vec<_> = (n * 10_000..n * 10_000 + 3000).map(event).collect();
            publish(&backend, &more).await;
            if messages(&server.url(), "events").await == all - 2100 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), trimmed).await.unwrap();
    assert_eq!(number(&take(&source, 1).await[0]), 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_with_leases_of_different_length_share_a_group() {
    let server = Nats::start().unwrap();
    let (near, far) = (open(&server.url()).await, open(&server.url()).await);
    let short = Duration::from_millis(300);
    let one = near.subscribe(request("g", Interest::all(), short)).await.unwrap();
    let other = far.subscribe(request("g", Interest::all(), LEASE)).await.unwrap();
    publish(&near, &[event(1)]).await;
    // Held for many of the group's leases, by the one with the longer.
    let held = take(&other, 1).await;
    let waiting = tokio::spawn({
        let one = Arc::clone(&one);
        async move { fetch(&one, 1).await }
    });
    tokio::time::sleep(short * 5).await; // sleep: that it is not given away shows in time alone
    assert!(!waiting.is_finished(), "it was given away: {:?}", waiting.await);
    settle(&other, &held[0], Verdict::Ack).await;
    publish(&near, &[event(2)]).await;
    let next = waiting.await.unwrap();
    assert_eq!((number(&next[0]), next[0].attempt), (2, 1));
    // One that is not settled comes again after the shorter lease.
    let again = take(&other, 1).await;
    assert_eq!((number(&again[0]), again[0].attempt, again[0].lost), (2, 2, true));
    settle(&other, &again[0], Verdict::Ack).await;

    let long = far.subscribe(request("h", Interest::all(), LEASE)).await.unwrap();
    let brief = near.subscribe(request("h", Interest::all(), short)).await.unwrap();
    long.close().await.unwrap();
    let first = take(&brief, 2).await;
    assert_eq!(first.len(), 2);
    let again = take(&brief, 2).await;
    assert!(again.iter().all(|one| one.attempt == 2 && one.lost), "{again:?}");
    let late = brief.settle(&[Settle::new(first[0].receipt.clone(), Verdict::Ack)]).await.remove(0);
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_other_members_want_is_left_to_them_and_costs_no_attempt() {
    let server = Nats::start().unwrap();
    let (near, far) = (open(&server.url()).await, open(&server.url()).await);
    let wants = |name: &str| request("g", event_type(name).interest(), LEASE);
    let old = near.subscribe(wants("a")).await.unwrap();
    let new = far.subscribe(wants("b")).await.unwrap();
    publish(&near, &[Event::new("b").payload(1), Event::new("c").payload(2)]).await;
    publish(&near, &[Event::new("a").payload(3)]).await;
    // It passes by what it does not want, some of it several times.
    assert_eq!(number(&take(&old, 1).await[0]), 3);
    let left = take(&new, 1).await;
    assert_eq!((number(&left[0]), left[0].attempt, left[0].lost), (1, 1, false));
    settle(&new, &left[0], Verdict::Ack).await;
    // Nobody wants the third, which is settled so.
    let keeper = near.keeper().unwrap();
    let info = &keeper.groups().await.unwrap()[0];
    assert_eq!((&*info.name, info.lag, info.interest.0.len()), ("g", 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_remembered_over_deliveries_and_by_a_letter() {
    let server = Nats::start().unwrap();
    let backend = open(&server.url()).await;
    let source = join(&backend, "odd group/ü").await;
    publish(&backend, &[event(1)]).await;
    let tried = |attempt| Try {
        attempt,
        at: railbus::clock::Timestamp::from_micros(i64::from(attempt)),
        subscription: "mail".into(),
        reason: format!("no luck {attempt}\n\"ü\""),
    };
    let first = take(&source, 1).await.remove(0);
    let nack = Settle {
        ended: vec![("log".into(), End::Done)],
        failed: vec![tried(1)],
        ..Settle::new(first.receipt, Verdict::Nack { delay: Duration::ZERO })
    };
    assert!(source.settle(&[nack]).await[0].is_ok());
    let second = take(&source, 1).await.remove(0);
    assert_eq!(
        (second.attempt, second.lost, &*second.finished),
        (2, false, &["log".to_owned()][..])
    );
    let dead = Settle {
        ended: vec![("mail".into(), End::Dead("gave up".into()))],
        failed: vec![tried(2)],
        ..Settle::new(second.receipt, Verdict::Ack)
    };
    assert!(source.settle(&[dead]).await[0].is_ok());
    let keeper = backend.keeper().unwrap();
    let filter = LetterFilter { group: Some("odd group/ü".into()), ..LetterFilter::default() };
    let letter = keeper.letters(&filter).await.unwrap().remove(0);
    assert_eq!((&*letter.subscription, &*letter.reason, letter.attempts), ("mail", "gave up", 2));
    assert_eq!(letter.history, [tried(1), tried(2)]);
    assert_eq!(letter.event.unwrap().payload::<u32>().unwrap(), 1);
    // Nothing is left on the desk but what the group wants.
    assert_eq!(messages(&server.url(), "events_desk").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_goes_back_to_its_group_alone_and_once() {
    let server = Nats::start().unwrap();
    let backend = open(&server.url()).await;
    let (mine, theirs) = (join(&backend, "mine").await, join(&backend, "theirs").await);
    let bus = Bus::open(&*server.url()).await.unwrap();
    let (says, mut said) = tokio::sync::mpsc::unbounded_channel();
    bus.on("tick")
        .run(move |e: &Event| says.send(e.payload::<u32>().unwrap()).unwrap_or_default())
        .await
        .unwrap();
    publish(&backend, &[event(1)]).await;
    assert_eq!(said.recv().await, Some(1));
    ack(&theirs, &take(&theirs, 1).await).await;
    let first = take(&mine, 1).await.remove(0);
    let id = first.event.as_ref().unwrap().id().to_owned();
    let ended = vec![("mail".into(), End::Dead("no".into()))];
    let dead = Settle { ended, ..Settle::new(first.receipt, Verdict::Ack) };
    assert!(mine.settle(&[dead]).await[0].is_ok());
    let keeper = backend.keeper().unwrap();
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.id.clone()).collect();
    assert_eq!(keeper.redrive(&ids).await.unwrap(), 1);
    assert_eq!(keeper.redrive(&ids).await.unwrap(), 0);
    let again = take(&mine, 1).await.remove(0);
    assert_eq!((again.attempt, again.only.as_deref()), (1, Some("mail")));
    assert_eq!(again.event.as_ref().unwrap().id(), id);
    ack(&mine, &[again]).await;
    publish(&backend, &[event(2)]).await;
    assert_eq!(number(&take(&theirs, 1).await[0]), 2);
    assert_eq!(said.recv().await, Some(2), "a listener heard what was handed back");
    assert_eq!(number(&take(&mine, 1).await[0]), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_come_later_does_so_over_a_crash_of_the_server() {
    let server = Nats::start().unwrap();
    let backend = open(&server.url()).await;
    let source = join(&backend, "g").await;
    let delay = Duration::from_secs(3);
    let began = std::time::Instant::now();
    publish(&backend, &[Event::new("later").delay(delay).payload(1), event(0)]).await;
    let now = take(&source, 1).await;
    assert_eq!(number(&now[0]), 0);
    ack(&source, &now).await;
    // sleep: the server writes consumers down ten times a second, and nothing tells when it did.
    tokio::time::sleep(Duration::from_millis(700)).await;
    server.kill().unwrap();
    server.start_again().unwrap();
    let later = loop {
        // The first fetch may still find the connection that broke.
        match tokio::time::timeout(Duration::from_secs(20), source.fetch(1)).await.expect("late") {
            Ok(leased) => break leased,
            Err(e) => assert!(e.is_retryable(), "{e}"),
        }
    };
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    assert_eq!((number(&later[0]), later[0].attempt), (1, 1));
    settle(&source, &later[0], Verdict::Ack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_lost_all_is_begun_anew_and_a_pruned_group_is_not() {
    let server = Nats::start().unwrap();
    let backend = open(&with(&server.url(), "storage=memory")).await;
    let source = join(&backend, "g").await;
    publish(&backend, &[event(1)]).await;
    ack(&source, &take(&source, 1).await).await;
    server.stop().unwrap();
    server.start_again().unwrap();
    let again = async {
        while let Err(e) = backend.publish(&[event(2).into()]).await.remove(0) {
            assert!(e.is_retryable(), "{e}");
        }
        loop {
            match source.fetch(1).await {
                Ok(leased) => break leased,
                Err(e) => assert!(e.is_retryable(), "{e}"),
            }
        }
    };
    let leased = tokio::time::timeout(Duration::from_secs(30), again).await.unwrap();
    assert_eq!(number(&leased[0]), 2);
    backend.keeper().unwrap().prune("g").await.unwrap();
    let pruned = tokio::time::timeout(Duration::from_secs(30), source.fetch(1)).await.unwrap();
    assert_eq!(pruned.unwrap_err().kind(), ErrorKind::NotFound);
    let error = backend.keeper().unwrap().prune("g").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_and_what_is_not_kept_is_refused() {
    let server = Nats::start().unwrap();
    let (near, far) =
        (Bus::open(&*server.url()).await.unwrap(), Bus::open(&*server.url()).await.unwrap());
    let double = |event: &Event| Reply::of(event.payload::<u32>().unwrap() * 2);
    far.on("double").group("doublers").retry(Retry::attempts(1)).run(double).await.unwrap();
    let reply =
        near.request(Event::new("double").payload(21), Duration::from_secs(20)).await.unwrap();
    assert_eq!(reply.payload::<u32>().unwrap(), 42);
    let keyed = near.on("a").group("g").ordered_by_key().run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(keyed.kind(), ErrorKind::Unsupported, "{keyed}");
    let at = Start::At(railbus::clock::Timestamp::now());
    let from = near.on("a").group("g").from(at).run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(from.kind(), ErrorKind::Unsupported, "{from}");
    let replayed = near.keeper().unwrap().replay("doublers", Start::Oldest).await.unwrap_err();
    assert!(replayed.advice().unwrap().contains("sqlite"), "{replayed:?}");
    let none = fetch_nothing(&server.url()).await;
    assert_eq!(none, 0);
}

/// Stops a source while it waits; tells what it returned then.
async fn fetch_nothing(url: &str) -> usize {
    let backend = open(url).await;
    let source = join(&backend, "idle").await;
    let drained = fetch(&source, 100).await;
    ack(&source, &drained).await;
    let waiting = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.fetch(1).await.unwrap().len() }
    });
    source.stop();
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap()
}
