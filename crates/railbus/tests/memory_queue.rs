//! The queues of groups in memory: bounded, fair, leased, held back; the dead letters they keep.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Error, ErrorKind, Event, Retry,
    backend::{
        Backend, GroupInfo, Keeper, Leased, Letter, LetterFilter, Settle, Source, Start, Subscribe,
        Verdict,
    },
    backends::{self, memory::Memory},
    event_type,
    options::Options,
    predicate::Interest,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// Waits for what must come; a test that waits in vain fails instead of hanging.
async fn next<T>(all: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = tokio::time::timeout(Duration::from_secs(60), all.recv()).await;
    next.expect("nothing came").expect("nobody sends any more")
}

fn quick(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff_factor(Duration::from_millis(1))
}

fn event(n: usize) -> Event {
    Event::new("a").id(n.to_string()).payload(n)
}

async fn memory(url: &str) -> Arc<dyn Backend> {
    backends::open(Options::parse(url).unwrap()).await.unwrap()
}

fn interest(types: &str) -> Interest {
    event_type(types).interest()
}

async fn join(backend: &Arc<dyn Backend>, types: &str, lease: Duration) -> Arc<dyn Source> {
    let (group, start) = (Some("g".into()), Start::Oldest);
    let request =
        Subscribe { group, interest: interest(types), start, lease, order: Default::default() };
    backend.subscribe(request).await.unwrap()
}

async fn settle(source: &Arc<dyn Source>, leased: Leased, verdict: Verdict) -> Result<(), Error> {
    source.settle(&[Settle::new(leased.receipt, verdict)]).await.remove(0)
}

fn id(leased: &Leased) -> &str {
    leased.event.as_ref().unwrap().id()
}

async fn settled(backend: &Arc<dyn Backend>) {
    let all = [("g".to_owned(), Interest::all())];
    let settled = backend.settled(&all);
    tokio::time::timeout(Duration::from_secs(60), settled).await.unwrap().unwrap();
}

async fn letters(backend: &Arc<dyn Backend>) -> Vec<Letter> {
    backend.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap()
}

async fn group(backend: &Arc<dyn Backend>) -> GroupInfo {
    backend.keeper().unwrap().groups().await.unwrap().remove(0)
}

#[tokio::test]
async fn a_full_group_lets_publish_wait_outside_and_refuses_it_inside_its_handler() {
    let backend = memory("memory:?queue=2").await;
    let bus = Bus::over(Arc::clone(&backend));
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("a")
        .group("g")
        .limit(1)
        .run(async move |e: Event, bus: Bus| {
            // Two more than there is room for beside this one, which is not settled yet.
            let mut results = Vec::new();
            if e.id() == "0" {
                for n in [10, 11] {
                    results.push(bus.publish(event(n)).await.err());
                }
            }
            seen.send((e.id().to_owned(), results)).unwrap();
        })
        .await
        .unwrap();
    bus.publish(event(0)).await.unwrap();
    let (_, results) = next(&mut all).await;
    assert!(results[0].is_none(), "{results:?}");
    let error = results[1].as_ref().unwrap();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.to_string().contains("group `g` is full: 2 events"), "{error}");
    assert!(error.advice().unwrap().contains("queue="), "{error}");
    // From outside all of them come through, with never more than two unsettled.
    for n in 1..10 {
        bus.publish(event(n)).await.unwrap();
        assert!(group(&backend).await.lag <= 2);
    }
    settled(&backend).await;
    bus.close().await.unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| all.try_recv().ok()).map(|(id, _)| id).collect();
    assert_eq!(rest, ["10", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn who_waits_for_room_is_served_in_order_and_may_stop_waiting() {
    let backend = memory("memory:?queue=1").await;
    let source = join(&backend, "a", Duration::from_secs(60)).await;
    backend.publish(&[event(0).into()]).await.remove(0).unwrap();
    let publish = |n| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move { backend.publish(&[event(n).into()]).await.remove(0) })
    };
    let mut publishing = Vec::new();
    for n in 1..=4 {
        publishing.push(publish(n));
        tokio::task::yield_now().await;
    }
    let gone = publishing.remove(1);
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    for n in [0, 1, 3, 4] {
        let leased = source.fetch(5).await.unwrap();
        assert_eq!(leased.iter().map(id).collect::<Vec<_>>(), [n.to_string()]);
        for leased in leased {
            settle(&source, leased, Verdict::Ack).await.unwrap();
        }
    }
    for publishing in publishing {
        publishing.await.unwrap().unwrap();
    }
    settled(&backend).await;
}

#[tokio::test]
async fn waiting_for_room_ends_when_the_backend_closes_or_nobody_is_left_to_make_room() {
    for closes in [true, false] {
        let backend = memory("memory:?queue=1").await;
        let source = join(&backend, "a", Duration::from_secs(60)).await;
        backend.publish(&[event(0).into()]).await.remove(0).unwrap();
        let waits = Arc::clone(&backend);
        let waiting =
            tokio::spawn(async move { waits.publish(&[event(1).into()]).await.remove(0) });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        match closes {
            true => backend.close(Duration::ZERO).await.unwrap(),
            false => source.close().await.unwrap(),
        }
        let error = waiting.await.unwrap().unwrap_err();
        let expected = if closes { ErrorKind::Closed } else { ErrorKind::Overloaded };
        assert_eq!(error.kind(), expected, "{error}");
        if !closes {
            let late = backend.publish(&[event(2).into()]).await.remove(0).unwrap_err();
            assert!(late.advice().unwrap().contains("nobody handles them"), "{late}");
        }
    }
}

#[tokio::test]
async fn an_event_goes_to_all_groups_that_want_it_or_to_none() {
    let memory = Memory::default();
    let backend: Arc<dyn Backend> = Arc::new(memory.connect());
    let mut sources = Vec::new();
    for (group, types) in [("one", "a"), ("both", "[ab]")] {
        let (group, start) = (Some(group.into()), Start::Oldest);
        let lease = Duration::from_secs(60);
        let request =
            Subscribe { group, interest: interest(types), start, lease, order: Default::default() };
        sources.push(backend.subscribe(request).await.unwrap());
    }
    let fill: Vec<_> = (0..10_000).map(|_| Event::new("b").payload(()).into()).collect();
    assert!(backend.publish(&fill).await.iter().all(Result::is_ok));
    // Inside of a delivery, so that it does not wait.
    let bus = Bus::over(Arc::new(memory));
    let inside = Arc::clone(&backend);
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("now")
        .run(async move |_: Event| {
            seen.send(inside.publish(&[event(1).into()]).await.remove(0)).unwrap();
        })
        .await
        .unwrap();
    bus.publish(Event::new("now")).await.unwrap();
    let error = next(&mut all).await.unwrap_err();
    assert!(error.to_string().contains("group `both` is full"), "{error}");
    let lag = |groups: Vec<GroupInfo>| groups.into_iter().map(|g| g.lag).collect::<Vec<_>>();
    assert_eq!(lag(backend.keeper().unwrap().groups().await.unwrap()), [10_000, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_event_is_held_back_in_the_group() {
    let bus = Bus::new();
    let (seen, mut all) = mpsc::unbounded_channel();
    let handler = move |e: &Event| seen.send((e.id().to_owned(), Instant::now())).unwrap();
    bus.on("a").group("g").run(handler).await.unwrap();
    let began = Instant::now();
    let hour = Duration::from_secs(3600);
    bus.publish(Event::new("a").id("later").delay(hour).payload(0)).await.unwrap();
    bus.publish(Event::new("a").id("never").delay(Duration::MAX).payload(0)).await.unwrap();
    bus.publish(event(1)).await.unwrap();
    assert_eq!(all.recv().await.unwrap(), ("1".into(), began));
    let (id, at) = all.recv().await.unwrap();
    assert_eq!(id, "later");
    assert!(at - began >= hour && at - began < hour * 2, "{:?}", at - began);
    bus.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_runs_out_is_a_try_and_its_receipt_is_stale() {
    let backend = memory("memory:").await;
    let lease = Duration::from_secs(10);
    let (one, other) = (join(&backend, "a", lease).await, join(&backend, "a", lease).await);
    // It sleeps before there is a lease, and must wake when that runs out.
    let waiting = tokio::spawn(async move { (other.fetch(1).await, other) });
    tokio::task::yield_now().await;
    backend.publish(&[event(1).into(), event(2).into()]).await;
    let (first, other) = waiting.await.unwrap();
    let (first, second) = (first.unwrap().remove(0), one.fetch(1).await.unwrap().remove(0));
    let waiting = tokio::spawn(async move { one.fetch(2).await.map(|all| (all, one)) });
    let extend = Verdict::Extend { tries: 2 };
    tokio::time::advance(lease / 2).await;
    let receipt = first.receipt.clone();
    assert!(other.settle(&[Settle::new(receipt, extend)]).await[0].is_ok());
    let (again, one) = waiting.await.unwrap().unwrap();
    let [again] = &again[..] else { panic!("the other lease was extended") };
    assert_eq!((id(again), again.attempt, again.lost), (id(&second), 2, true));
    let stale = settle(&one, second, Verdict::Ack).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Stale);
    settle(&other, first, Verdict::Nack { delay: Duration::ZERO }).await.unwrap();
    let first = other.fetch(1).await.unwrap().remove(0);
    assert_eq!((first.attempt, first.lost), (4, false), "tries in place count");
    settle(&other, first, Verdict::Release { delay: Duration::ZERO }).await.unwrap();
    assert_eq!(other.fetch(1).await.unwrap()[0].attempt, 4, "giving back is free");
}

#[tokio::test]
async fn what_a_member_does_not_want_is_left_to_the_others() {
    let backend = memory("memory:").await;
    let lease = Duration::from_secs(60);
    let (a, b) = (join(&backend, "a", lease).await, join(&backend, "b", lease).await);
    let of = |name: &str| Event::new(name).id(name).payload(()).into();
    backend.publish(&[of("b"), of("a")]).await;
    for (source, wanted) in [(&a, "a"), (&b, "b")] {
        let leased = source.fetch(9).await.unwrap();
        assert_eq!(leased.iter().map(id).collect::<Vec<_>>(), [wanted]);
    }
    // What nobody wants any more is not collected; when all have left, it is.
    b.stop();
    backend.publish(&[of("b"), of("a")]).await;
    assert_eq!(group(&backend).await.lag, 3);
    a.stop();
    backend.publish(&[of("b"), of("a")]).await;
    assert_eq!(group(&backend).await.lag, 4);
    assert!(a.fetch(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_never_became_an_event_is_a_dead_letter_of_its_input() {
    let backend = memory("memory:").await;
    let mut line: railbus::backend::Outgoing = event(1).into();
    line.rejected = Some("no JSON".into());
    backend.publish(&[line]).await.remove(0).unwrap();
    let [letter] = &letters(&backend).await[..] else { panic!("not one letter") };
    assert_eq!((letter.reason.as_str(), letter.group.as_deref()), ("no JSON", None));
}

#[tokio::test]
async fn the_latest_dead_letters_are_kept_and_found() {
    let backend = memory("memory:?queue=20000").await;
    let bus = Bus::over(Arc::clone(&backend));
    let failing = |e: &Event| Err::<(), _>(format!("no {}", e.id()));
    bus.on("a").group("g").named("n").retry(quick(1)).run(failing).await.unwrap();
    let batch: Vec<_> = (0..10_001).map(|n| event(n).into()).collect();
    assert!(bus.publish_all(&batch).await.iter().all(Result::is_ok));
    settled(&backend).await;
    assert_eq!(letters(&backend).await.len(), 10_000);
    let keeper: &dyn Keeper = backend.keeper().unwrap();
    let found = async |filter: LetterFilter| keeper.letters(&filter).await.unwrap().len();
    let reason = Some("no 5000".into());
    assert_eq!(found(LetterFilter { reason, ..LetterFilter::default() }).await, 1);
    let (event_id, group) = (Some("7".into()), Some("g".into()));
    assert_eq!(found(LetterFilter { event_id, group, ..LetterFilter::default() }).await, 1);
    let event_type = Some("b*".into());
    assert_eq!(found(LetterFilter { event_type, ..LetterFilter::default() }).await, 0);
    let limit = Some(3);
    assert_eq!(found(LetterFilter { limit, ..LetterFilter::default() }).await, 3);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_can_hold_nothing_is_refused() {
    for text in ["0", "-1", "many"] {
        let error = Bus::open(&format!("memory:?queue={text}")).await.unwrap_err();
        assert!(error.to_string().contains("not a value of `queue`"), "{error}");
        assert!(error.advice().unwrap().contains("from 1 on"), "{error}");
    }
}
