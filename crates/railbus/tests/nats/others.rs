//! Programs without Railbus on the same subjects.

use super::scene::{ask, join, number, open, publish, settle, take, with};
use async_nats::HeaderMap;
use futures_util::StreamExt;
use railbus::{Event, backend::Verdict};
use railbus_testbed::Nats;

fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        headers.insert(*name, *value);
    }
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn they_hear_cloudevents_in_binary_mode_on_the_topic_s_subject() {
    let server = Nats::start().unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut all = client.subscribe("events.>").await.unwrap();
    client.flush().await.unwrap();
    let backend = open(&server.url()).await;
    let event = Event::new("order.placed")
        .topic("shop.eu west")
        .id("e-1")
        .source("till ü")
        .metadata("traceparent", "00-1")
        .metadata("tenant", "a")
        .payload(serde_json::json!({"n": 1}));
    publish(&backend, &[event]).await;
    let message = all.next().await.unwrap();
    assert_eq!(&*message.subject, "events.shop.eu%20west");
    assert_eq!(&*message.payload, br#"{"n":1}"#);
    let headers = message.headers.unwrap();
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "e-1"),
        ("ce-type", "order.placed"),
        ("ce-source", "till%20%C3%BC"),
        ("traceparent", "00-1"),
        ("content-type", "application/json"),
        ("Nats-Msg-Id", "e-1"),
    ] {
        assert_eq!(header(name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_they_publish_is_read_and_what_is_no_event_stops_nobody() {
    let server = Nats::start().unwrap();
    let backend = open(&server.url()).await;
    let source = join(&backend, "g").await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let say = async |headers: &[(&'static str, &str)], body: &[u8]| {
        let body = body.to_vec().into();
        client.publish_with_headers("events.theirs", self::headers(headers), body).await.unwrap();
    };
    let binary = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-type", "t"), ("ce-source", "/s")];
    say(&binary, b"7").await;
    let structured = r#"{"specversion":"1.0","id":"2","source":"/s","type":"t","data":8}"#;
    say(&[("content-type", "application/cloudevents+json")], structured.as_bytes()).await;
    let nonsense: [&[u8]; 8] =
        [b"", b"null", b"7", b"<html>", b"bm8=", b"\xff\x00", b"{\"id\":1}", &[b'['; 100_000]];
    for body in nonsense {
        say(&[], body).await;
    }
    let broken = [("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-time", "yesterday")];
    say(&broken, b"1").await;
    say(&[("ce-specversion", "9"), ("Railbus-Delay", "soon")], b"1").await;
    client.flush().await.unwrap();
    publish(&backend, &[Event::new("mine").topic("theirs").payload(9)]).await;
    let taken = take(&source, 13).await;
    let read: Vec<_> = taken
        .iter()
        .filter(|one| one.event.is_ok())
        .map(|one| (number(one), one.attempt))
        .collect();
    assert_eq!(read, [(7, 1), (8, 1), (9, 1)]);
    for one in &taken {
        if let Err(poison) = &one.event {
            assert!(!poison.error.to_string().is_empty());
        }
        settle(&source, one, Verdict::Ack).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_payloads_are_events_of_their_topic_and_the_same_each_time() {
    let server = Nats::start().unwrap();
    let backend = open(&with(&server.url(), "format=plain")).await;
    let source = join(&backend, "g").await;
    let client = async_nats::connect(server.url()).await.unwrap();
    client.publish("events.lights.hall", r#"{"on":true}"#.into()).await.unwrap();
    client
        .publish_with_headers("events.lights.hall", headers(&[("Nats-Msg-Id", "m-1")]), "2".into())
        .await
        .unwrap();
    let first = take(&source, 2).await;
    let of = |n: usize| first[n].event.as_ref().unwrap();
    assert_eq!((of(0).event_type(), of(0).get("on")), ("lights.hall", Some(true)));
    assert_eq!((of(0).id(), of(1).id()), ("events:1", "m-1"));
    settle(&source, &first[0], Verdict::Nack { delay: std::time::Duration::ZERO }).await;
    let again = take(&source, 1).await;
    assert_eq!(again[0].event.as_ref().unwrap().id(), "events:1");
    publish(&backend, &[Event::new("a").topic("lights").payload(3)]).await;
    let which = r#"{"last_by_subj":"events.lights"}"#;
    let got = ask(&server.url(), "$JS.API.STREAM.MSG.GET.events", which).await;
    assert_eq!(got["message"]["data"], "Mw==");
}
