//! Programs of others on the same database: people with psql, and dataknobs.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

// Each file uses a part of it.
#[allow(dead_code)]
#[path = "postgres_served/heard.rs"]
mod heard;

use heard::{Heard, PATIENCE, server};
use railbus::{Bus, ErrorKind, Event, any, json, topic};
use railbus_testbed::{INTEROP, Python};

#[tokio::test]
async fn plain_json_from_psql_is_heard_and_written() {
    let database = server().database().unwrap();
    let options =
        json!({ "url": database.url("postgres"), "format": "plain", "topics": "lights, doors" });
    let bus = Bus::open(options).await.unwrap();
    let mut heard = Heard::on(&bus, any()).await;
    database.psql(r#"NOTIFY events_lights, '{"on": true}'"#).unwrap();
    let event = heard.next().await;
    assert_eq!(
        (event.event_type(), event.topic(), event.get("on")),
        ("lights", "lights", Some(true))
    );
    database.psql("NOTIFY events_doors, 'no JSON'; NOTIFY events_doors, '[7]'").unwrap();
    assert_eq!(heard.next().await.payload::<Vec<u32>>().unwrap(), [7]);
    bus.publish(Event::new("opened").topic("doors").payload(8)).await.unwrap();
    let event = heard.next().await;
    assert_eq!((event.topic(), event.payload::<u32>().unwrap()), ("doors", 8));
    bus.close().await.unwrap();
}

#[tokio::test]
async fn payloads_that_are_equal_are_heard_as_often_as_they_are_published() {
    let database = server().database().unwrap();
    let options = json!({ "url": database.url("postgres"), "format": "plain", "topics": "lights" });
    let bus = Bus::open(options).await.unwrap();
    let mut heard = Heard::on(&bus, any()).await;
    let batch = vec![Event::new("lights").payload(1).into(); 20];
    assert!(bus.publish_all(&batch).await.iter().all(Result::is_ok));
    for _ in 0..20 {
        assert_eq!(heard.next().await.payload::<u32>().unwrap(), 1);
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn what_only_grows_too_large_on_the_way_is_refused_too() {
    server()
        .psql("postgres", "CREATE DATABASE narrow ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'")
        .unwrap();
    let url = server().url("postgres");
    let (place, _) = url.rsplit_once('/').unwrap();
    let options =
        json!({ "url": format!("{place}/narrow"), "format": "plain", "topics": "lights" });
    let bus = Bus::open(options).await.unwrap();
    let mut heard = Heard::on(&bus, any()).await;
    let event = |size| Event::new("lights").payload("é".repeat(size));
    let sent = bus.publish_all(&[event(2_000).into(), event(1_000).into()]).await;
    assert_eq!(sent[0].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(sent[1].is_ok(), "{sent:?}");
    assert_eq!(heard.next().await.payload::<String>().unwrap().chars().count(), 1_000);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn what_others_could_not_take_is_refused() {
    let database = server().database().unwrap();
    let options = json!({ "url": database.url("postgres"), "format": "dataknobs" });
    let bus = Bus::open(options).await.unwrap();
    let large = Event::new("blob").payload("x".repeat(8_000));
    assert_eq!(bus.publish(large).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let odd = Event::new("blob").topic("*").payload(0);
    assert_eq!(bus.publish(odd).await.unwrap_err().kind(), ErrorKind::InvalidEvent);
    let unlisted = bus.on(any()).run(|_: &Event| {}).await.unwrap_err();
    assert!(unlisted.advice().unwrap().contains("topics"), "{unlisted:?}");
    bus.close().await.unwrap();
}

/// Echoes what comes on `to:python` to `to:rust`, with its own library.
const ECHO: &str = r#"
import asyncio, sys
from dataknobs_common.events import Event, EventType
from dataknobs_common.events.postgres import PostgresEventBus

async def main():
    bus = PostgresEventBus(connection_string=sys.argv[1])
    await bus.connect()
    async def echo(event):
        payload = {"said": event.payload, "type": event.type.value, "topic": event.topic}
        await bus.publish("to:rust", Event(type=EventType.UPDATED, topic="to:rust",
            payload=payload, correlation_id=event.correlation_id, source="python"))
    await bus.subscribe("to:python", echo)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await bus.close()

asyncio.run(main())
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_with_dataknobs_and_one_with_railbus_talk_to_each_other() {
    let database = server().database().unwrap();
    let python = Python::with(INTEROP).unwrap();
    let url = database.url("postgresql");
    let program = python.start(ECHO, &[&url]).unwrap();
    assert_eq!(program.line(PATIENCE).unwrap(), "ready");
    let options = json!({ "url": url, "format": "dataknobs", "topics": "to:rust,to-rust" });
    let bus = Bus::open(options).await.unwrap();
    let mut heard = Heard::on(&bus, topic("to:rust")).await;
    let mut alike = Heard::on(&bus, topic("to-rust")).await;
    for (event_type, theirs) in [("created", "created"), ("order.placed", "custom")] {
        let payload = json!({"é": 1.5, "list": [1, null]});
        let sent =
            Event::new(event_type).topic("to:python").correlation("c-7").payload(payload.clone());
        bus.publish(&sent).await.unwrap();
        let event = heard.next().await;
        assert_eq!((event.event_type(), event.source()), ("updated", "python"));
        let said = json!({ "said": payload, "type": theirs, "topic": "to:python" });
        assert_eq!(event.payload::<railbus::Value>().unwrap(), said);
        assert_eq!(event.correlation_id(), "c-7");
    }
    assert!(alike.now().is_empty(), "the same channel, another topic");
    bus.close().await.unwrap();
    program.end().unwrap();
}
