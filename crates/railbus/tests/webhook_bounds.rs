//! Webhooks that come in from senders who mean no good, or are slow, or are many.
#![cfg(feature = "webhook")]
#![allow(clippy::unwrap_used)]

mod hooked;

use hooked::{Client, post, request};
use railbus::{
    Event,
    webhook::{Signature, WebhookConsumer},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

/// Returns a consumer, where it is, and how many events came through.
async fn open(settings: &str) -> (WebhookConsumer, SocketAddr, Arc<AtomicU32>) {
    let url = format!("webhook://127.0.0.1:0/hooks?{settings}");
    let hooks = WebhookConsumer::open(url.as_str()).await.unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    hooks
        .on("*")
        .run(move |_: &Event| {
            counted.fetch_add(1, SeqCst);
        })
        .await
        .unwrap();
    hooks.start().await.unwrap();
    let address = hooks.address().unwrap();
    (hooks, address, count)
}

const HEAD: &str = "POST /hooks HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n";

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let (_hooks, address, count) = open("body_timeout=100ms").await;
    let mut client = Client::to(address).await;
    client.send(format!("{HEAD}content-length: 10\r\n\r\n123")).await;
    assert_eq!(client.answer().await.unwrap().status, 408);
    let mut chunked = Client::to(address).await;
    chunked.send(format!("{HEAD}transfer-encoding: chunked\r\n\r\n3\r\n123\r\n")).await;
    assert_eq!(chunked.answer().await.unwrap().status, 408);
    // One that says little by little, for ever.
    let mut trickles = Client::to(address).await;
    trickles.send(format!("{HEAD}transfer-encoding: chunked\r\n\r\n")).await;
    let mut sent = 0;
    while trickles.try_send("1\r\n1\r\n").await && sent < 1000 {
        sent += 1;
        // sleep: it is slow
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(sent < 1000, "it was cut off");
    assert_eq!(post(address, "/hooks", &[], "1").await.status, 200);
    assert_eq!(count.load(SeqCst), 1);
}

#[tokio::test]
async fn a_body_larger_than_allowed_is_refused_however_it_is_sent() {
    let (_hooks, address, count) = open("body_max=1000").await;
    let mut says = Client::to(address).await;
    says.send(format!("{HEAD}content-length: 99999999999\r\n\r\n")).await;
    assert_eq!(says.answer().await.unwrap().status, 413, "before any of it is sent");
    let mut chunked = Client::to(address).await;
    chunked.send(format!("{HEAD}transfer-encoding: chunked\r\n\r\n")).await;
    chunked.send(format!("200\r\n{}\r\n1F0\r\n{}\r\n", "1".repeat(512), "1".repeat(496))).await;
    assert_eq!(chunked.answer().await.unwrap().status, 413);
    assert_eq!(post(address, "/hooks", &[], &"1".repeat(1000)).await.status, 200);
    assert_eq!(post(address, "/hooks", &[], &"1".repeat(1001)).await.status, 413);
    assert_eq!(count.load(SeqCst), 1);
}

#[tokio::test]
async fn a_compressed_body_is_refused_unseen() {
    let (_hooks, address, count) = open("").await;
    for encoding in ["gzip", "br", "deflate", "zstd", "gzip, gzip"] {
        let mut client = Client::to(address).await;
        let head = format!("{HEAD}content-encoding: {encoding}\r\ncontent-length: 1000\r\n\r\n");
        client.send(head).await;
        assert_eq!(client.answer().await.unwrap().status, 415, "{encoding}");
    }
    let headers = [("content-encoding", "identity")];
    assert_eq!(post(address, "/hooks", &headers, "1").await.status, 200);
    assert_eq!(count.load(SeqCst), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_or_never_ends_is_given_up() {
    let (_hooks, address, _) = open("idle_timeout=200ms").await;
    let many: String = (0..100).map(|n| format!("x-{n}: 1\r\n")).collect();
    let mut client = Client::to(address).await;
    client.send(format!("{HEAD}{many}content-length: 1\r\n\r\n1")).await;
    assert_eq!(client.answer().await.unwrap().status, 431);
    let mut client = Client::to(address).await;
    client.try_send(format!("{HEAD}x-large: {}\r\n", "x".repeat(60_000))).await;
    assert_eq!(client.answer().await.unwrap().status, 431);
    let mut slow = Client::to(address).await;
    slow.send("POST /hooks HTTP/1.1\r\nhost:").await;
    assert!(slow.answer().await.is_none_or(|answer| answer.status == 408));
    let mut idle = Client::to(address).await;
    idle.send(request("/hooks", &[], "1")).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    assert!(idle.answer().await.is_none(), "one that says nothing more is let go");
    for nonsense in
        ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "POST / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}"]
    {
        let mut client = Client::to(address).await;
        client.try_send(nonsense).await;
        assert!(client.answer().await.is_none_or(|answer| answer.status == 400), "{nonsense:?}");
    }
    assert_eq!(post(address, "/hooks", &[], "1").await.status, 200);
}

#[tokio::test]
async fn connections_that_say_nothing_hold_up_nobody() {
    let (hooks, address, count) = open("max_connections=400&idle_timeout=60s").await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(Client::to(address).await);
    }
    let mut half = Vec::new();
    for _ in 0..50 {
        let mut client = Client::to(address).await;
        client.send(format!("{HEAD}content-length: 10\r\n\r\n1")).await;
        half.push(client);
    }
    for n in 0..20 {
        assert_eq!(post(address, "/hooks", &[], &n.to_string()).await.status, 200);
    }
    assert_eq!(count.load(SeqCst), 20);
    // Those in the middle of a body are told; nobody waits for the others.
    hooks.stop_within(Duration::from_millis(200)).await.unwrap();
}

#[tokio::test]
async fn a_request_without_the_right_signature_is_refused() {
    let settings = "scheme=github&secret=old%20secret&secret_env=PATH";
    let (_hooks, address, count) = open(settings).await;
    let body = r#"{"n":1}"#;
    for secret in ["old secret".to_owned(), std::env::var("PATH").unwrap()] {
        let github = Signature::github(secret).unwrap();
        let signed = github.sign("", body.as_bytes()).remove(0).1;
        let signed = signed.to_str().unwrap();
        let headers = [
            ("x-hub-signature-256", signed),
            ("x-github-event", "push"),
            ("x-github-delivery", &signed[10..20]),
        ];
        assert_eq!(post(address, "/hooks", &headers, body).await.status, 200);
        let answer = post(address, "/hooks", &headers, r#"{"n":2}"#).await;
        let says = r#"{"error":"the signature fits no secret"}"#;
        assert_eq!((answer.status, answer.body.as_str()), (401, says));
    }
    assert_eq!(post(address, "/hooks", &[], body).await.status, 401);
    // Before anything is looked at that is not signed.
    assert_eq!(post(address, "/hooks", &[], "not JSON").await.status, 401);
    assert_eq!(count.load(SeqCst), 2);
}
