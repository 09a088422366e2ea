//! Webhooks that come in: what a sender is told, and when.
#![cfg(feature = "webhook")]
#![allow(clippy::unwrap_used)]

mod hooked;

use hooked::{Answer, Client, post, request};
use railbus::{
    Event, Payload, Retry, Value,
    delivery::{Nack, Outcome},
    json,
    webhook::WebhookConsumer,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, mpsc};

async fn open(settings: &str) -> (WebhookConsumer, SocketAddr) {
    let url = format!("webhook://127.0.0.1:0/hooks?{settings}");
    let hooks = WebhookConsumer::open(url.as_str()).await.unwrap();
    let address = hooks.address().unwrap();
    (hooks, address)
}

/// Posts an event of type `order` under an id.
async fn order(address: SocketAddr, id: &str) -> Answer {
    post(address, "/hooks", &[("webhook-id", id)], r#"{"type":"order"}"#).await
}

/// A handler that tells that it runs, and ends when it may.
struct Held {
    runs: mpsc::UnboundedReceiver<String>,
    may: Arc<Semaphore>,
}

async fn held(hooks: &WebhookConsumer) -> Held {
    let (told, runs) = mpsc::unbounded_channel();
    let may = Arc::new(Semaphore::new(0));
    let until = Arc::clone(&may);
    let handle = async move |event: Event| {
        told.send(event.id().to_owned()).unwrap();
        until.acquire().await.unwrap().forget();
    };
    hooks.on("order").run(handle).await.unwrap();
    hooks.start().await.unwrap();
    Held { runs, may }
}

#[tokio::test]
async fn a_sender_is_told_ok_only_once_the_handlers_are_through() {
    let (hooks, address) = open("").await;
    let mut held = held(&hooks).await;
    let mut client = Client::to(address).await;
    client.send(request("/hooks", &[("webhook-id", "o-1")], r#"{"type":"order"}"#)).await;
    assert_eq!(held.runs.recv().await.unwrap(), "o-1");
    let early = tokio::time::timeout(Duration::from_millis(50), client.answer()).await;
    assert!(early.is_err(), "{early:?}");
    held.may.add_permits(1);
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"ok"}"#));
    assert_eq!(answer.headers["content-type"], "application/json");
    hooks.stop().await.unwrap();
}

#[tokio::test]
async fn an_id_is_handled_once_and_a_second_sender_waits_its_turn() {
    let (hooks, address) = open("").await;
    let mut held = held(&hooks).await;
    let first = tokio::spawn(order(address, "o-1"));
    held.runs.recv().await.unwrap();
    let second = order(address, "o-1").await;
    assert_eq!((second.status, second.retry_after()), (409, Some(1)));
    held.may.add_permits(1);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(order(address, "o-1").await.status, 200);
    // The same without an id is known by its bytes.
    held.may.add_permits(1);
    let body = r#"{"type":"order", "n": 1}"#;
    for _ in 0..2 {
        assert_eq!(post(address, "/hooks", &[], body).await.status, 200);
    }
    assert_eq!(held.runs.recv().await.unwrap().len(), 64);
    assert!(held.runs.try_recv().is_err(), "nothing was handled twice");
    assert_eq!(hooks.bus().counters().delivered.get(), 2);
}

#[tokio::test]
async fn who_hangs_up_stops_nothing_and_learns_what_came_of_it_when_it_sends_again() {
    let (hooks, address) = open("").await;
    let mut held = held(&hooks).await;
    let mut client = Client::to(address).await;
    client.send(request("/hooks", &[("webhook-id", "o-1")], r#"{"type":"order"}"#)).await;
    held.runs.recv().await.unwrap();
    drop(client);
    assert_eq!(order(address, "o-1").await.status, 409);
    held.may.add_permits(1);
    hooks.bus().idle().await.unwrap();
    assert_eq!(order(address, "o-1").await.status, 200);
    assert!(held.runs.try_recv().is_err());
}

#[tokio::test]
async fn a_handler_that_takes_long_goes_on_while_its_sender_is_told_to_come_again() {
    let (hooks, address) = open("answer_within=50ms").await;
    let mut held = held(&hooks).await;
    let slow = order(address, "o-1").await;
    assert_eq!((slow.status, slow.retry_after()), (503, Some(5)));
    held.runs.recv().await.unwrap();
    assert_eq!(order(address, "o-1").await.status, 409);
    held.may.add_permits(1);
    hooks.bus().idle().await.unwrap();
    assert_eq!(order(address, "o-1").await.status, 200);
    assert!(held.runs.try_recv().is_err());
}

/// Answers each try of a handler in turn.
async fn tries(hooks: &WebhookConsumer, retry: Retry, all: Vec<Outcome>) -> Arc<AtomicU32> {
    let (left, tried) = (Arc::new(Mutex::new(all.into_iter())), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&tried);
    let handle = move |_: &Event| {
        counted.fetch_add(1, SeqCst);
        left.lock().unwrap().next().unwrap_or(Outcome::Done)
    };
    hooks.on("order").named("tries").retry(retry).run(handle).await.unwrap();
    hooks.start().await.unwrap();
    tried
}

fn fails() -> Outcome {
    Outcome::Failed("the password is hunter2".into())
}

fn nacked(delay: Duration) -> Outcome {
    Outcome::Nacked(Nack { delay, reason: "not yet".into() })
}

#[tokio::test]
async fn an_event_given_up_is_its_sender_s_who_begins_anew_by_sending_it_again() {
    let (hooks, address) = open("").await;
    let tried = tries(&hooks, Retry::attempts(1), vec![fails()]).await;
    let answer = order(address, "o-1").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.body, r#"{"error":"the event could not be handled"}"#);
    assert_eq!(order(address, "o-1").await.status, 200);
    assert_eq!(tried.load(SeqCst), 2);
}

#[tokio::test]
async fn tries_after_short_waits_are_made_while_the_sender_waits() {
    let (hooks, address) = open("").await;
    let retry = Retry::attempts(3).backoff(Duration::from_millis(1));
    let tried = tries(&hooks, retry, vec![fails(), fails()]).await;
    assert_eq!(order(address, "o-1").await.status, 200);
    assert_eq!(tried.load(SeqCst), 3);
}

#[tokio::test]
async fn tries_after_long_waits_are_made_when_the_event_is_sent_again_and_not_before() {
    let (hooks, address) = open("").await;
    let wait = Duration::from_secs(11);
    let tried = tries(&hooks, Retry::attempts(2), vec![nacked(wait), Outcome::Done]).await;
    let answer = order(address, "o-1").await;
    assert_eq!((answer.status, answer.retry_after()), (503, Some(11)));
    let early = order(address, "o-1").await;
    assert_eq!(early.status, 503);
    assert!((10..=11).contains(&early.retry_after().unwrap()));
    assert_eq!(tried.load(SeqCst), 1, "it was not tried before");
}

#[tokio::test]
async fn the_tries_of_an_id_are_counted_over_its_requests() {
    let (hooks, address) = open("").await;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&attempts);
    // Shorter than nothing: each try is a request.
    let on = hooks.on("order").lease(Duration::from_millis(100)).retry(Retry::attempts(3));
    on.run(async move |delivery: railbus::delivery::Delivery| {
        seen.lock().unwrap().push(delivery.attempt());
        nacked(Duration::from_millis(50))
    })
    .await
    .unwrap();
    hooks.start().await.unwrap();
    let mut statuses = Vec::new();
    while statuses.last() != Some(&500) && statuses.len() < 10 {
        statuses.push(order(address, "o-1").await.status);
        // sleep: until the event may come again
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(statuses, [503, 503, 500]);
    assert_eq!(*attempts.lock().unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn of_several_subscriptions_only_those_run_again_that_were_not_through() {
    let (hooks, address) = open("").await;
    let through = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&through);
    let on = hooks.on("order").named("through").priority(0);
    on.run(move |_: &Event| {
        count.fetch_add(1, SeqCst);
    })
    .await
    .unwrap();
    let tried = tries(&hooks, Retry::attempts(1), vec![fails()]).await;
    assert_eq!(order(address, "o-1").await.status, 500);
    assert_eq!(order(address, "o-1").await.status, 200);
    assert_eq!((through.load(SeqCst), tried.load(SeqCst)), (1, 2));
}

#[tokio::test]
async fn what_nobody_wants_is_taken_and_handled_by_nobody() {
    let (hooks, address) = open("").await;
    let tried = tries(&hooks, Retry::attempts(1), vec![]).await;
    assert_eq!(post(address, "/hooks", &[], r#"{"type":"star"}"#).await.status, 200);
    assert_eq!(post(address, "/hooks", &[], r#"[1]"#).await.status, 200);
    assert_eq!((tried.load(SeqCst), hooks.bus().counters().delivered.get()), (0, 0));
}

#[tokio::test]
async fn what_can_t_be_an_event_is_refused_with_a_reason_that_leaks_nothing() {
    let (hooks, address) = open("body_max=100").await;
    tries(&hooks, Retry::attempts(1), vec![]).await;
    let long = format!("\"{}\"", "x".repeat(99));
    for (headers, body, status, says) in [
        (vec![], "{", 400, "the body is not JSON"),
        (vec![], "", 400, "the body is not JSON"),
        (vec![], "<html>hunter2</html>", 400, "the body is not JSON"),
        (vec![], "{} {}", 400, "the body is not JSON"),
        (vec![], "\u{feff}{}", 400, "the body is not JSON"),
        (vec![], &*long, 413, "the body is too large"),
        (vec![], r#"{"type":""}"#, 400, "the event's type or topic is not a name"),
        (vec![("webhook-id", "")], "1", 400, "the id must have 1 to 256 bytes"),
        (vec![("content-encoding", "gzip")], "1", 415, "bodies must not be compressed"),
        (vec![("content-type", "text/plain")], "1", 415, "the body must be application/json"),
        (
            vec![("content-type", "application/x-www-form-urlencoded")],
            "payload=1",
            415,
            "the body must be application/json",
        ),
        (
            vec![("content-type", "application/cloudevents+json")],
            "{}",
            400,
            "the request is not a CloudEvent of version 1.0",
        ),
    ] {
        let answer = post(address, "/hooks", &headers, body).await;
        let expected = (status, format!(r#"{{"error":"{says}"}}"#));
        assert_eq!((answer.status, answer.body), expected, "{headers:?} {body}");
    }
    assert_eq!(post(address, "/other", &[], "1").await.status, 404);
    let mut client = Client::to(address).await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        client.send(format!("{method} /hooks HTTP/1.1\r\nhost: here\r\n\r\n")).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "POST"), "{method}");
    }
    assert_eq!(hooks.bus().counters().delivered.get(), 0);
}

#[tokio::test]
async fn types_topics_ids_and_payloads_are_where_the_settings_say() {
    let all = "type_header=x-kind&topic=shop:{type}&payload_field=data.order&id_field=data.no\
               &keep_headers=x-tenant,x-none";
    let (hooks, address) = open(all).await;
    let (told, mut got) = mpsc::unbounded_channel();
    let handle = async move |event: Event| told.send(event).unwrap();
    hooks.on(railbus::topic("shop:*")).run(handle).await.unwrap();
    hooks.start().await.unwrap();
    let headers = [("x-kind", "placed"), ("x-tenant", "north"), ("traceparent", "00-1")];
    let body = r#"{"data": {"no": 77, "order": [1, 2]}}"#;
    assert_eq!(post(address, "/hooks", &headers, body).await.status, 200);
    let event = got.recv().await.unwrap();
    let said = (event.id(), event.event_type(), event.topic(), event.source());
    assert_eq!(said, ("77", "placed", "shop:placed", "webhook"));
    assert_eq!(event.payload::<Value>().unwrap(), json!([1, 2]));
    let kept: Vec<_> = event.metadata().iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(kept, [("traceparent", "00-1"), ("x-tenant", "north")]);
    for (headers, body, says) in [
        (&headers[1..], body, "the header of the event's type is missing"),
        (&headers[..], r#"{"data":{"no":1}}"#, "the body lacks the field of the payload"),
        (&headers[..], r#"{"data":{"order":1}}"#, "the body lacks the field of the event's id"),
        (&headers[..], r#"[1]"#, "the body lacks the field of the event's id"),
    ] {
        let answer = post(address, "/hooks", headers, body).await;
        assert_eq!((answer.status, answer.body), (400, format!(r#"{{"error":"{says}"}}"#)));
    }
}

#[tokio::test]
async fn cloudevents_come_alone_in_headers_or_many_at_once() {
    let (hooks, address) = open("").await;
    let (told, mut got) = mpsc::unbounded_channel();
    let handle = async move |event: Event, payload: Payload<Value>| {
        let refused = payload["bad"].as_bool().unwrap_or_default();
        told.send((event.id().to_owned(), payload)).unwrap();
        if refused { Err("refused") } else { Ok(()) }
    };
    hooks.on("t.*").retry(Retry::attempts(1)).run(handle).await.unwrap();
    hooks.start().await.unwrap();
    let binary =
        [("ce-specversion", "1.0"), ("ce-id", "b-1"), ("ce-type", "t.a"), ("ce-source", "/s")];
    for _ in 0..2 {
        assert_eq!(post(address, "/hooks", &binary, r#"{"n":1}"#).await.status, 200);
    }
    let one = |id: &str, data: Value| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t.b", "data": data});
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    let body = one("s-1", json!({"n": 2})).to_string();
    assert_eq!(post(address, "/hooks", &structured, &body).await.status, 200);
    let batched = [("content-type", "application/cloudevents-batch+json")];
    let body =
        json!([one("x-1", json!({})), one("x-2", json!({"bad": true})), one("x-1", json!({}))]);
    let answer = post(address, "/hooks", &batched, &body.to_string()).await;
    assert_eq!(answer.status, 500, "not all of them came through");
    let body = json!([one("x-1", json!({})), one("x-2", json!({}))]).to_string();
    assert_eq!(post(address, "/hooks", &batched, &body).await.status, 200);
    assert_eq!(post(address, "/hooks", &batched, "[]").await.status, 200);
    let mut ids = Vec::new();
    while let Ok((id, _)) = got.try_recv() {
        ids.push(id);
    }
    ids.sort();
    assert_eq!(ids, ["b-1", "s-1", "x-1", "x-2", "x-2"], "only what failed ran again");
}

#[tokio::test]
async fn more_requests_than_there_is_room_for_are_told_to_come_again() {
    let (hooks, address) = open("max_requests=2").await;
    let mut held = held(&hooks).await;
    let taken: Vec<_> = ["o-1", "o-2"].map(|id| tokio::spawn(order(address, id))).into();
    for _ in 0..2 {
        held.runs.recv().await.unwrap();
    }
    let pressed = order(address, "o-3").await;
    assert_eq!((pressed.status, pressed.retry_after()), (429, Some(1)));
    held.may.add_permits(3);
    for one in taken {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert_eq!(order(address, "o-3").await.status, 200);
}

#[tokio::test]
async fn while_it_stops_what_runs_is_answered_and_what_comes_is_told_to_come_again() {
    let (hooks, address) = open("").await;
    let early = order(address, "o-0").await;
    assert_eq!((early.status, early.retry_after()), (503, Some(1)), "before it starts");
    let mut held = held(&hooks).await;
    let running = tokio::spawn(order(address, "o-1"));
    held.runs.recv().await.unwrap();
    let mut open = Client::to(address).await;
    open.send(request("/hooks", &[("webhook-id", "o-2")], r#"{"type":"star"}"#)).await;
    assert_eq!(open.answer().await.unwrap().status, 200);
    let stopping = tokio::spawn({
        let hooks = hooks.clone();
        async move { hooks.stop().await }
    });
    let late = loop {
        open.send(request("/hooks", &[("webhook-id", "o-3")], r#"{"type":"star"}"#)).await;
        let answer = open.answer().await.unwrap();
        if answer.status != 200 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((late.status, late.retry_after()), (503, Some(5)));
    held.may.add_permits(1);
    assert_eq!(running.await.unwrap().status, 200);
    stopping.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "it listens no more");
}
