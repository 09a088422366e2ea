//! Webhooks that go out: what answers come to, and whom is posted to.
#![cfg(feature = "webhook")]
#![allow(clippy::unwrap_used)]

mod hooked;

use hooked::server::Server;
use railbus::{
    Bus, Event, Retry, Value, json,
    webhook::{Endpoint, Mode, Signature, WebhookConsumer},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::sync::mpsc;

fn to(server: &Server) -> Endpoint {
    Endpoint::new(server.url()).unwrap().allow_private()
}

/// Posts the events of a bus in memory, each as often as `tries` says.
async fn bus_to(endpoint: Endpoint, tries: u32) -> Bus {
    let bus = Bus::open("memory:").await.unwrap();
    let retry = Retry::attempts(tries).backoff(Duration::from_millis(1));
    bus.on("*").group("out").named("post").retry(retry).run(endpoint).await.unwrap();
    bus
}

async fn letters(bus: &Bus) -> Vec<String> {
    let letters = bus.keeper().unwrap().letters(&Default::default()).await.unwrap();
    letters.into_iter().map(|letter| letter.reason).collect()
}

fn event(id: &str) -> Event {
    Event::new("order.placed").id(id).source("shop").key("ü 1").payload(json!({"n": 1}))
}

#[tokio::test]
async fn what_is_posted_here_comes_out_there_as_it_was() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let url = format!("webhook://127.0.0.1:0/in?scheme=standard&secret={secret}");
    let hooks = WebhookConsumer::open(url.as_str()).await.unwrap();
    let (told, mut got) = mpsc::unbounded_channel();
    let handle = async move |event: Event| told.send(event).unwrap();
    hooks.on("*").run(handle).await.unwrap();
    hooks.start().await.unwrap();
    let url = format!("http://{}/in", hooks.address().unwrap());
    let signed = Endpoint::new(url).unwrap().allow_private();
    let signed = signed.sign(Signature::standard(secret).unwrap());
    let sent = Event::new("order.placed")
        .id("ü 1")
        .topic("shop")
        .source("/till")
        .key("k%1")
        .correlation("c")
        .causation("d")
        .schema("https://x/s")
        .metadata("tenant", "nord \"1\"")
        .metadata("traceparent", "00-1-2-3")
        .payload(json!({"n": [1, null]}));
    for (mode, id) in [(Mode::Binary, "ü 1"), (Mode::Structured, "ü 2")] {
        let mut map = sent.to_map().unwrap();
        map.insert("id".into(), id.into());
        let sent = Event::from_map(&map).unwrap();
        signed.clone().mode(mode).post(&sent).await.unwrap();
        assert_eq!(got.recv().await.unwrap(), sent, "{mode:?}");
    }
    signed.clone().mode(Mode::Payload).post(&event("p-1")).await.unwrap();
    let plain = got.recv().await.unwrap();
    assert_eq!((plain.id(), plain.payload::<Value>().unwrap()), ("p-1", json!({"n": 1})));
    let forged = Signature::standard("whsec_AAAA").unwrap();
    let error = signed.sign(forged).post(&event("f-1")).await.unwrap_err();
    assert!(error.to_string().contains("answered 401 Unauthorized"), "{error}");
}

#[tokio::test]
async fn some_answers_are_asked_again_and_others_are_dead_letters_at_once() {
    for status in ["408 T", "409 C", "425 E", "429 T", "500 I", "502 B", "503 S", "504 G"] {
        let server = Server::says(&[status, "200 OK"]).await;
        let bus = bus_to(to(&server), 2).await;
        bus.publish(event("e-1")).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!((server.asked().len(), letters(&bus).await.len()), (2, 0), "{status}");
        let ids: BTreeSet<_> =
            server.asked().iter().map(|asked| asked.headers["ce-id"].clone()).collect();
        assert_eq!(ids.len(), 1, "under the same id");
    }
    for (status, says) in [
        ("400 Bad Request", "answered 400 Bad Request"),
        ("401 Unauthorized", "answered 401"),
        ("404 Not Found", "answered 404"),
        ("422 Unprocessable Entity", "answered 422"),
        ("410 Gone", "answered 410"),
        (
            "302 Found\r\nlocation: http://127.0.0.1:1/elsewhere?token=hunter2",
            "answered 302 Found: redirects are not followed, name http://127.0.0.1:1/elsewhere itself",
        ),
    ] {
        let server = Server::says(&[status]).await;
        let bus = bus_to(to(&server), 5).await;
        bus.publish(event("e-1")).await.unwrap();
        bus.idle().await.unwrap();
        let letters = letters(&bus).await;
        assert_eq!((server.asked().len(), letters.len()), (1, 1), "{status}");
        assert!(letters[0].contains(says) && !letters[0].contains("hunter2"), "{letters:?}");
    }
}

#[tokio::test]
async fn who_asks_to_wait_is_waited_for() {
    let server = Server::says(&["429 T\r\nretry-after: 1", "200 OK"]).await;
    let bus = bus_to(to(&server), 2).await;
    let began = std::time::Instant::now();
    bus.publish(event("e-1")).await.unwrap();
    while server.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    // Others wait as well.
    bus.publish(event("e-2")).await.unwrap();
    // sleep: it would be posted by now
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.asked().len(), 1);
    bus.idle().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!((server.asked().len(), letters(&bus).await.len()), (3, 0));
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_left_alone_and_no_try_is_counted_meanwhile() {
    let server = Server::says(&["500 I"]).await;
    let bus = Bus::open("memory:").await.unwrap();
    let endpoint = to(&server).at_once(1).breaker(2, Duration::from_secs(300));
    let retry = Retry::attempts(3).backoff(Duration::from_millis(1));
    bus.on("*").group("out").limit(4).retry(retry).run(endpoint).await.unwrap();
    for n in 0..40 {
        bus.publish(event(&format!("e-{n}"))).await.unwrap();
    }
    while bus.counters().retried.get() < 2 {
        tokio::task::yield_now().await;
    }
    // sleep: more would come by now
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.asked().len(), 2, "nothing is posted");
    let counters = bus.counters();
    assert_eq!(
        (counters.delivered.get(), counters.retried.get()),
        (4, 2),
        "nor fetched, nor tried"
    );
    // Those that wait for it are not waited for.
    let closed = tokio::time::timeout(Duration::from_secs(15), bus.close()).await;
    closed.unwrap().unwrap();

    let server = Server::says(&["500 I", "500 I", "500 I", "200 OK"]).await;
    let bus = bus_to(to(&server).at_once(1).breaker(2, Duration::from_millis(50)), 2).await;
    for n in 0..40 {
        bus.publish(event(&format!("e-{n}"))).await.unwrap();
    }
    bus.idle().await.unwrap();
    assert_eq!((server.asked().len(), letters(&bus).await.len()), (43, 0), "it goes on");
}

#[tokio::test]
async fn a_bus_that_closes_does_not_wait_for_an_endpoint_that_is_down() {
    let server = Server::says(&["500 I"]).await;
    let endpoint = to(&server).breaker(1, Duration::from_secs(300));
    let bus = bus_to(endpoint, 100).await;
    bus.publish(event("e-1")).await.unwrap();
    while server.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    let closed = tokio::time::timeout(Duration::from_secs(10), bus.close()).await;
    closed.unwrap().unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let server = Server::says(&["nothing"]).await;
    let error = to(&server).timeout(Duration::from_millis(50)).post(&event("e")).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("took longer than 50ms"), "{error}");
    let error = Endpoint::new("http://127.0.0.1:1/x7Yq2mPz0LkWv93hTnB4s6Da?token=hunter2");
    let error = error.unwrap().allow_private().post(&event("e")).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("x7Yq2mPz"));
}

#[tokio::test]
async fn addresses_inside_are_refused_whichever_name_they_have() {
    let server = Server::says(&["200 OK"]).await;
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
    ] {
        let endpoint = Endpoint::new(format!("http://{host}:{port}/hooks")).unwrap();
        let error = endpoint.post(&event("e-1")).await.unwrap_err().to_string();
        assert!(error.contains("private network") || error.contains("lookup"), "{host}: {error}");
    }
    assert!(server.asked().is_empty());
    to(&server).post(&event("e-1")).await.unwrap();
    // One that was opened for who may does not serve who may not.
    assert!(Endpoint::new(server.url()).unwrap().post(&event("e-2")).await.is_err());
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn connections_are_used_again() {
    let large = "200 OK\r\nx-large: 1";
    let server = Server::says(&["200 OK", "500 I", large, "404 N", large]).await;
    for n in 0..20 {
        drop(to(&server).post(&event(&n.to_string())).await);
    }
    let used: BTreeSet<_> = server.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!((server.asked().len(), used.len()), (20, 1));
}

#[tokio::test]
async fn no_more_are_under_way_than_the_endpoint_takes_at_once() {
    let server = Server::says(&["nothing"]).await;
    let bus = bus_to(to(&server).at_once(3), 1).await;
    for n in 0..20 {
        bus.publish(event(&n.to_string())).await.unwrap();
    }
    while server.asked().len() < 3 {
        tokio::task::yield_now().await;
    }
    // sleep: a fourth would come by now
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.asked().len(), 3);
    bus.close_within(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn headers_are_sent_and_those_of_the_request_are_refused() {
    let server = Server::says(&["200 OK"]).await;
    let endpoint = to(&server).header("X-Tenant", "north").unwrap();
    endpoint.post(&event("e 1")).await.unwrap();
    let asked = server.asked().remove(0);
    for (name, value) in [
        ("x-tenant", "north"),
        ("content-type", "application/json"),
        ("ce-id", "e%201"),
        ("webhook-id", "e%201"),
        ("ce-partitionkey", "%C3%BC%201"),
        ("ce-specversion", "1.0"),
    ] {
        assert_eq!(asked.headers[name], value);
    }
    assert_eq!(asked.body, r#"{"n":1}"#);
    for (name, value) in [("host", "x"), ("ce-id", "x"), ("no name", "x"), ("x", "a\nb")] {
        assert!(to(&server).header(name, value).is_err(), "{name}");
    }
    for url in ["ftp://x/", "http://", "https://me:pw@x/", "x", "http://x/#a"] {
        assert!(Endpoint::new(url).is_err(), "{url}");
    }
}
