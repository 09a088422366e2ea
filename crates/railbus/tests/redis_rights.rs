//! Users who may do what docs/redis.md says, and nothing else.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Retry,
    backend::{LetterFilter, Start},
    clock::Timestamp,
    testing::Recorder,
};
use railbus_testbed::Redis;
use std::time::Duration;

/// Returns the access list that the documentation gives under this heading, as words.
fn documented(heading: &str) -> Vec<String> {
    let file = format!("{}/../../docs/redis.md", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let page = std::fs::read_to_string(file).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, rest) = section.split_once("```text\nACL SETUSER app ").unwrap();
    let (list, _) = rest.split_once("```").unwrap();
    list.replace('\\', " ").split_whitespace().map(str::to_owned).collect()
}

/// Gives the server a user with these rights and returns how it is named in a URL.
fn with_user(redis: &Redis, rights: &[String]) -> String {
    let mut command = vec!["ACL", "SETUSER", "app", "reset"];
    command.extend(rights.iter().map(String::as_str));
    redis.command(&command).unwrap();
    format!("app:SECRET@{}", redis.address())
}

#[railbus::test]
async fn pub_sub_needs_what_is_documented() {
    let redis = Redis::start().unwrap();
    let at = with_user(&redis, &documented("Rights for `redis`"));
    let (bus, received) = (Bus::open(&format!("redis://{at}")).await.unwrap(), Recorder::new());
    bus.on("*").run(received.clone()).await.unwrap();
    bus.publish(Event::new("a").payload(1)).await.unwrap();
    bus.idle().await.unwrap();
    assert_eq!(received.len(), 1);
    let other = Bus::open(&format!("redis://{at}?prefix=other")).await.unwrap();
    let refused = other.publish(Event::new("a").payload(1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert_eq!(refused.advice(), Some("ACL SETUSER app &other:*"), "{refused:?}");
    redis.command(&["ACL", "SETUSER", "app", "-publish"]).unwrap();
    let refused = bus.publish(Event::new("a").payload(1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert_eq!(refused.advice(), Some("ACL SETUSER app +publish"), "{refused:?}");
}

/// Does all that a bus on a stream can do.
async fn everything(url: &str) {
    let (bus, received) = (Bus::open(url).await.unwrap(), Recorder::new());
    let accounts = bus.accounts().unwrap();
    let groups = [("g".to_owned(), railbus::predicate::Interest::all())];
    let run = accounts.begin(&groups).await.unwrap();
    bus.on("*").run(received.clone()).await.unwrap();
    let record = received.clone();
    let handler = async move |event: Event| {
        railbus::SyncHandler::handle(&record, &event)?;
        if event.event_type() == "fails" { Err("no".into()) } else { railbus::done() }
    };
    let retry = Retry::attempts(2).backoff_factor(Duration::from_millis(200));
    let on = bus.on("*").group("g").lease(Duration::from_millis(200)).retry(retry);
    on.run(handler).await.unwrap();
    // What a fleet has in common needs no more.
    let once = railbus::middlewares::Dedup::new().shared().space("s");
    let rate = railbus::middlewares::RateLimit::per_second(1_000.0).shared("r");
    let keyed = bus.on("*").group("k").ordered_by_key().layer(once).layer(rate);
    keyed.run(received.clone()).await.unwrap();
    for name in ["fine", "fails"] {
        bus.publish(Event::new(name).key("k").payload(1)).await.unwrap();
    }
    let soon = Event::new("late").delay(Duration::from_millis(100)).payload(1);
    bus.publish(soon).await.unwrap();
    bus.publish(Event::new("late").id("never").delay(Duration::from_secs(3600)).payload(1))
        .await
        .unwrap();
    assert!(bus.withdraw("never").await.unwrap());
    bus.idle().await.unwrap();
    assert_eq!(accounts.tally(run).await.unwrap().published, 3);
    accounts.end(run).await.unwrap();
    let keeper = bus.keeper().unwrap();
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(keeper.redrive(&[letters[0].id.clone()]).await.unwrap(), 1);
    bus.idle().await.unwrap();
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(keeper.purge(&[letters[0].id.clone()]).await.unwrap(), 1);
    keeper.replay("k", Start::At(Timestamp::now())).await.unwrap();
    assert_eq!(keeper.groups().await.unwrap().len(), 2);
    keeper.prune("k").await.unwrap();
    bus.close().await.unwrap();
}

#[railbus::test]
async fn streams_need_what_is_documented_and_no_more() {
    let redis = Redis::start().unwrap();
    let rights = documented("Rights for `redis-streams`");
    let at = with_user(&redis, &rights);
    everything(&format!("redis-streams://{at}")).await;
    let commands: Vec<_> = rights.iter().filter_map(|word| word.strip_prefix('+')).collect();
    assert!(commands.len() > 30, "{commands:?}");
    for command in &commands {
        // Who may not ask for these does without.
        let optional = ["info", "client|id", "client|unblock", "subscribe"].contains(command);
        redis.command(&["ACL", "SETUSER", "app", &format!("-{command}")]).unwrap();
        // Else no script would have to be handed over.
        redis.command(&["SCRIPT", "FLUSH"]).unwrap();
        let tried = async {
            let bus = Bus::open(&format!("redis-streams://{at}?stream=events")).await?;
            bus.ping().await?;
            bus.publish(Event::new("a").payload(1)).await?;
            bus.on("*").run(|_: &Event| ()).await?;
            bus.on("*").group("g").run(|_: &Event| ()).await?;
            bus.idle().await?;
            bus.keeper()?.groups().await?;
            bus.keeper()?.letters(&LetterFilter::default()).await?;
            bus.close().await
        };
        let tried = tokio::time::timeout(Duration::from_secs(30), tried).await.expect(command);
        match tried {
            Ok(()) => assert!(optional, "{command} is not needed"),
            Err(error) => {
                assert!(!optional, "{command} {error:?}");
                assert_eq!(error.kind(), ErrorKind::Denied, "{command} {error:?}");
                let advice = error.advice().unwrap();
                assert!(advice.starts_with("ACL SETUSER app +"), "{command} {advice}");
                assert!(advice.contains(&format!("+{command}")), "{command} {advice}");
            }
        }
        redis.command(&["ACL", "SETUSER", "app", &format!("+{command}")]).unwrap();
    }
}

#[railbus::test]
async fn keys_that_are_not_given_are_named() {
    let redis = Redis::start().unwrap();
    let at = with_user(&redis, &documented("Rights for `redis-streams`"));
    let refused = Bus::open(&format!("redis-streams://{at}?stream=other")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    let advice = refused.advice().unwrap();
    assert_eq!(advice, "ACL SETUSER app ~other ~{other}:* &{other}:wake");
}
