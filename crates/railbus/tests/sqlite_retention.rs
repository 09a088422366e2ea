//! Retention and waking: the file doesn't grow for ever, and a commit is heard by all.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use futures_util::FutureExt;
use railbus::{
    backend::{Order, Outgoing, Start, Subscribe, Tally},
    backends,
    bus::Bus,
    event::Event,
    options::Options,
    predicate::event_type,
    retry::Retry,
};
use rusqlite::Connection;
use std::{path::PathBuf, time::Duration};
use tokio::sync::mpsc;

/// Waits for what must come; a test that waits in vain fails instead of hanging.
async fn next<T>(all: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = tokio::time::timeout(Duration::from_secs(60), all.recv()).await;
    next.expect("nothing came").expect("nobody sends any more")
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.db");
    (folder, path)
}

fn types(path: &PathBuf) -> Vec<String> {
    let store = Connection::open(path).unwrap();
    let mut events = store.prepare("SELECT type FROM events ORDER BY seq").unwrap();
    events.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Looks until it is so; retention works in the background and tells nobody.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        // sleep: between looks at a file that another thread changes.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_settled_goes_and_a_run_still_counts_it() {
    let (_folder, path) = place();
    let bus = Bus::open(&format!("sqlite:{}?retention=200ms", path.display())).await.unwrap();
    let accounts = bus.accounts().unwrap();
    let groups = [("g".to_owned(), event_type("[gf]*").interest())];
    let run = accounts.begin(&groups).await.unwrap();
    bus.on("[gf]*")
        .group("g")
        .named("n")
        .retry(Retry::attempts(1))
        .run(|e: &Event| if e.event_type() == "fails" { Err("no") } else { Ok(()) })
        .await
        .unwrap();
    for name in ["good", "good", "fails", "nobody-wants-it"] {
        let outgoing = Outgoing { run: Some(run), ..Event::new(name).payload(1).into() };
        bus.publish_all(&[outgoing]).await.remove(0).unwrap();
    }
    until("only the dead letter is left", || types(&path) == ["fails"]).await;
    let tally = accounts.tally(run).await.unwrap();
    let expected = Tally {
        published: 4,
        delivered: 3,
        succeeded: 2,
        dead_lettered: 1,
        unmatched: 1,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn what_an_abandoned_group_wants_stays_until_the_group_is_pruned() {
    let (_folder, path) = place();
    let url = format!("sqlite:{}?retention=100ms", path.display());
    let bus = Bus::open(&url).await.unwrap();
    let left = bus.on("wanted").group("abandoned").run(|_: &Event| ()).await.unwrap();
    left.cancel();
    for name in ["wanted", "unwanted"] {
        bus.publish(Event::new(name).payload(1)).await.unwrap();
    }
    until("what nobody wants is gone", || types(&path) == ["wanted"]).await;
    let keeper = bus.keeper().unwrap();
    let group = keeper.groups().await.unwrap().remove(0);
    assert_eq!((group.name.as_str(), group.lag), ("abandoned", 1));
    assert_eq!(group.interest.to_string(), "type wanted");
    keeper.prune("abandoned").await.unwrap();
    until("the file is empty", || types(&path).is_empty()).await;
    let error = keeper.prune("abandoned").await.unwrap_err();
    assert!(error.advice().unwrap().contains("no groups"), "{error}");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_commit_is_heard_even_if_its_byte_is_lost() {
    let (_folder, path) = place();
    let url = format!("sqlite:{}", path.display());
    let (ear, mouth) = (Bus::open(&url).await.unwrap(), Bus::open(&url).await.unwrap());
    let (seen, mut all) = mpsc::unbounded_channel();
    ear.on("a")
        .group("g")
        .run(move |e: &Event| seen.send(e.id().to_owned()).unwrap())
        .await
        .unwrap();
    // Who is not listed gets no byte; only the log tells it.
    Connection::open(&path).unwrap().execute("DELETE FROM listeners", []).unwrap();
    mouth.publish(Event::new("a").id("unheard").payload(1)).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(10), all.recv()).await;
    assert_eq!(heard.expect("the recheck finds it").unwrap(), "unheard");
    ear.close().await.unwrap();
    mouth.close().await.unwrap();
}

#[tokio::test]
async fn a_held_back_event_comes_when_it_is_due_and_not_before() {
    let (_folder, path) = place();
    let bus = Bus::open(&format!("sqlite:{}", path.display())).await.unwrap();
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("[ab]")
        .group("g")
        .run(move |e: &Event| seen.send(e.id().to_owned()).unwrap())
        .await
        .unwrap();
    let began = std::time::Instant::now();
    let delay = Duration::from_millis(300);
    bus.publish(Event::new("a").id("later").delay(delay).payload(1)).await.unwrap();
    bus.publish(Event::new("b").id("now").payload(1)).await.unwrap();
    assert_eq!(next(&mut all).await, "now");
    assert_eq!(next(&mut all).await, "later");
    assert!(began.elapsed() >= delay);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_listener_that_comes_too_late_is_told_that_it_missed_something() {
    let (_folder, path) = place();
    let options = Options::parse(&format!("sqlite:{}?retention=100ms", path.display())).unwrap();
    let store = backends::open(options).await.unwrap();
    let (interest, start) = (event_type("*").interest(), Start::Newest);
    let lease = Duration::from_secs(30);
    let request = Subscribe { group: None, interest, start, lease, order: Order::Any };
    let source = store.subscribe(request).await.unwrap();
    let publish = async |name: &str| {
        store.publish(&[Event::new(name).payload(0).into()]).await.remove(0).unwrap();
    };
    publish("heard").await;
    assert_eq!(source.fetch(9).await.unwrap().len(), 1);
    assert!(source.gap().now_or_never().is_none(), "nothing was missed");
    publish("missed").await;
    until("it is gone", || types(&path).is_empty()).await;
    publish("heard").await;
    assert_eq!(source.fetch(9).await.unwrap().len(), 1);
    source.gap().await;
    store.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_keeps_up_with_what_comes() {
    let (_folder, path) = place();
    let url = format!("sqlite:{}?retention=100ms", path.display());
    let bus = Bus::open(&url).await.unwrap();
    let publishing = (0..8).map(|_| {
        let bus = bus.clone();
        tokio::spawn(async move {
            let batch: Vec<Outgoing> =
                (0..1000).map(|n| Event::new("t").payload(n).into()).collect();
            for _ in 0..12 {
                assert!(bus.publish_all(&batch).await.iter().all(Result::is_ok));
            }
        })
    });
    for task in publishing.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let left = types(&path).len();
    assert!(left < 48_000, "{left} of 96000 events are left");
    until("the others go, too", || types(&path).is_empty()).await;
    bus.close().await.unwrap();
}
