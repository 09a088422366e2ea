//! Railbus talks with programs that know nothing of it, over the same servers: dataknobs' own bus,
//! the CloudEvents SDK of Python, and people with `redis-cli` and `psql`.
#![cfg(all(feature = "redis", feature = "postgres"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod peer;

use peer::Peer;
use railbus::{Bus, Event, bus::Guard, event::Type, topic};
use railbus_testbed::{Postgres, Redis};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What a bus heard on a topic, and the subscription.
struct Ear(UnboundedReceiver<Event>, #[allow(dead_code)] Guard);

impl Ear {
    async fn on(bus: &Bus, name: &str) -> Self {
        let (say, heard) = unbounded_channel();
        let hear = move |event: Event| drop(say.send(event));
        Self(heard, bus.on(topic(name)).run(hear).await.unwrap().guard())
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(Duration::from_secs(30), self.0.recv()).await.unwrap().unwrap()
    }
}

fn with(url: &str, setting: &str) -> String {
    format!("{url}{}{setting}", if url.contains('?') { '&' } else { '?' })
}

/// Both ways, on the same channels.
async fn talks_with_dataknobs(url: &str, settings: &Value) {
    let bus = Bus::open(url).await.unwrap();
    let mut bots = Ear::on(&bus, "registry:bots").await;
    let mut peer = Peer::start("dataknobs.py", &[&settings.to_string(), "registry:bots"]);

    let asked = json!({"type": "updated", "topic": "registry:bots", "payload": {"bot_id": "b1"},
        "source": "admin", "correlation_id": "c-1", "metadata": {"depth": 2}});
    peer.publish(&asked);
    let heard = bots.next().await;
    assert_eq!((heard.event_type(), heard.topic()), (Type::UPDATED, "registry:bots"));
    assert_eq!(heard.get::<String>("bot_id").as_deref(), Some("b1"));
    assert_eq!((heard.source(), heard.correlation_id()), ("admin", "c-1"));
    assert_eq!(heard.metadata()["depth"], "2");
    // It hears itself as well.
    assert_eq!(peer.hear()["event_id"], heard.id());

    let event = Event::new(Type::DELETED).topic("registry:bots").source("railbus");
    let event = event.metadata("by", "é").payload(json!({"bot_id": "b2"}));
    bus.publish(event.clone()).await.unwrap();
    let said = peer.hear();
    assert_eq!((&said["type"], &said["topic"]), (&json!("deleted"), &json!("registry:bots")));
    assert_eq!(
        (&said["payload"], &said["metadata"]),
        (&json!({"bot_id": "b2"}), &json!({"by": "é"}))
    );
    assert_eq!((&said["event_id"], &said["source"]), (&json!(event.id()), &json!("railbus")));
    assert_eq!(bots.next().await, event);

    // A type that it does not know: custom there, and itself here.
    let event = Event::new("order.placed").topic("registry:bots").payload(json!([1, 2]));
    bus.publish(event.clone()).await.unwrap();
    let said = peer.hear();
    assert_eq!((&said["type"], &said["payload"]), (&json!("custom"), &json!({"body": [1, 2]})));
    assert_eq!(bots.next().await, event);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_on_dataknobs_and_one_on_railbus_talk_over_redis() {
    let redis = Redis::start().unwrap();
    let settings = json!({"backend": "redis", "host": "127.0.0.1", "port": redis.port()});
    talks_with_dataknobs(&with(&redis.url("redis"), "format=dataknobs"), &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_on_dataknobs_and_one_on_railbus_talk_over_postgres() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.url("postgres");
    let settings = json!({"backend": "postgres", "connection_string": url});
    // PostgreSQL has no patterns over channels: which there are must be said.
    let url = with(&url, "format=dataknobs&topics=registry:bots");
    talks_with_dataknobs(&url, &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cloudevents_sdk_reads_ours_and_its_events_are_read() {
    let redis = Redis::start().unwrap();
    let bus = Bus::open(&redis.url("redis")).await.unwrap();
    let mut ear = Ear::on(&bus, "shop").await;
    let mut peer = Peer::start("cloud.py", &[&redis.port().to_string(), "events:shop"]);

    peer.publish(&json!({"id": "e-1", "source": "/py", "type": "order.placed", "subject": "s",
        "tenant": "acme", "data": {"order": {"total": 12.5}}}));
    let heard = ear.next().await;
    assert_eq!((heard.id(), heard.event_type(), heard.topic()), ("e-1", "order.placed", "shop"));
    assert_eq!((heard.source(), heard.get("order.total")), ("/py", Some(12.5)));
    assert_eq!((&*heard.metadata()["tenant"], &*heard.metadata()["subject"]), ("acme", "s"));
    peer.hear();
    peer.publish(
        &json!({"id": "e-2", "source": "/py", "type": "raw", "binary": true, "data": {"a": 1}}),
    );
    assert_eq!(ear.next().await.get("a"), Some(1));
    peer.hear();

    let event = Event::new("order.paid").topic("shop").source("till").key("o-1");
    let event =
        event.metadata("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let event = event.schema("https://shop/paid.json").payload(json!({"total": 12.5}));
    bus.publish(event.clone()).await.unwrap();
    let said = peer.hear();
    let attributes = &said["attributes"];
    assert_eq!(
        (&attributes["id"], &attributes["type"]),
        (&json!(event.id()), &json!("order.paid"))
    );
    assert_eq!((&attributes["source"], &attributes["topic"]), (&json!("till"), &json!("shop")));
    assert_eq!(attributes["partitionkey"], "o-1");
    assert_eq!(attributes["traceparent"], event.metadata()["traceparent"]);
    assert_eq!(attributes["dataschema"], "https://shop/paid.json");
    assert_eq!(said["data"], json!({"total": 12.5}));
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_cli_publishes_is_heard_as_plain_json() {
    let redis = Redis::start().unwrap();
    let bus = Bus::open(&with(&redis.url("redis"), "format=plain")).await.unwrap();
    let mut ear = Ear::on(&bus, "lights").await;
    redis.command(&["PUBLISH", "events:lights", r#"{"on": true}"#]).unwrap();
    let heard = ear.next().await;
    assert_eq!((heard.event_type(), heard.topic()), ("lights", "lights"));
    assert_eq!(heard.get("on"), Some(true));
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_psql_notifies_is_heard_as_plain_json() {
    let postgres = Postgres::start().unwrap();
    let database = postgres.database().unwrap();
    let bus =
        Bus::open(&with(&database.url("postgres"), "format=plain&topics=lights")).await.unwrap();
    let mut ear = Ear::on(&bus, "lights").await;
    postgres.psql(database.name(), r#"NOTIFY events_lights, '{"on": true}'"#).unwrap();
    let heard = ear.next().await;
    assert_eq!((heard.event_type(), heard.topic()), ("lights", "lights"));
    assert_eq!(heard.get("on"), Some(true));
    bus.close().await.unwrap();
}
