//! Webhooks in a server of one's own, over TLS, and as GitHub sends them.
#![cfg(feature = "webhook")]
#![allow(clippy::unwrap_used)]

mod hooked;

use hooked::{Client, post, request};
use railbus::{
    Event, Value, json,
    webhook::{Signature, WebhookConsumer},
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::mpsc};

#[tokio::test]
async fn a_router_is_mounted_in_a_server_of_one_s_own() {
    let settings = json!({ "backend": "webhook", "path": "/hooks", "body_max": 100 });
    let hooks = WebhookConsumer::mounted(settings).await.unwrap();
    let (told, mut got) = mpsc::unbounded_channel();
    let handle = async move |event: Event| told.send(event.id().to_owned()).unwrap();
    hooks.on("order").run(handle).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().nest("/shop", hooks.router());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let headers = [("webhook-id", "o-1")];
    let body = r#"{"type":"order"}"#;
    assert_eq!(post(address, "/shop/hooks", &headers, body).await.status, 503, "not started");
    hooks.start().await.unwrap();
    for _ in 0..2 {
        assert_eq!(post(address, "/shop/hooks", &headers, body).await.status, 200);
    }
    assert_eq!((got.recv().await.unwrap(), got.try_recv().is_err()), ("o-1".into(), true));
    assert_eq!(post(address, "/hooks", &headers, body).await.status, 404);
    assert_eq!(post(address, "/shop/hooks", &[], &"1".repeat(101)).await.status, 413);
    let mut client = Client::to(address).await;
    client.send("GET /shop/hooks HTTP/1.1\r\nhost: here\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 405);
    hooks.stop().await.unwrap();
    assert_eq!(post(address, "/shop/hooks", &headers, body).await.status, 503, "stopped");
    serving.abort();
    let port = WebhookConsumer::mounted("webhook://127.0.0.1:0/").await.unwrap_err();
    assert!(port.to_string().contains("has no port"), "{port}");
}

/// Returns the deliveries that GitHub made: the event's name, and the payload as it was sent.
fn deliveries() -> Vec<(String, String)> {
    let krate = env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let path = Path::new(&krate).join("../railbus-cli/tests/data/github-webhooks.ndjson");
    let text = fs::read_to_string(path).unwrap();
    let read = |line: &str| {
        let line: BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(line).unwrap();
        (serde_json::from_str(line["event"].get()).unwrap(), line["payload"].get().to_owned())
    };
    text.lines().map(read).collect()
}

#[tokio::test]
async fn what_github_sends_comes_through_as_it_was_signed() {
    let secret = "It's a Secret to Everybody";
    let map = json!({ "backend": "webhook", "port": 0, "path": "/", "scheme": "github", "secret": secret });
    let hooks = WebhookConsumer::open(map).await.unwrap();
    let got: Arc<Mutex<Vec<(String, String, String)>>> = Arc::default();
    let kept = Arc::clone(&got);
    let handle = move |event: &Event| {
        let text = event.raw_payload().text().unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        kept.lock().unwrap().push((event.id().into(), event.event_type().into(), text));
    };
    hooks.on("*").run(handle).await.unwrap();
    hooks.start().await.unwrap();
    let github = Signature::github(secret).unwrap();
    let deliveries = deliveries();
    assert_eq!(deliveries.len(), 165);
    let mut client = Client::to(hooks.address().unwrap()).await;
    // Each twice, as if the first answer had been lost.
    for (n, (kind, payload)) in deliveries.iter().enumerate().flat_map(|one| [one, one]) {
        let signed = github.sign("", payload.as_bytes()).remove(0).1;
        let id = format!("d-{n}");
        let headers = [
            ("user-agent", "GitHub-Hookshot/044aadd"),
            ("x-github-event", kind.as_str()),
            ("x-github-delivery", &id),
            ("x-hub-signature-256", signed.to_str().unwrap()),
        ];
        client.send(request("/", &headers, payload)).await;
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
    let expected: Vec<_> = deliveries
        .into_iter()
        .enumerate()
        .map(|(n, (kind, payload))| (format!("d-{n}"), kind, payload))
        .collect();
    assert!(*got.lock().unwrap() == expected, "each once, and not a byte changed");
}

#[tokio::test]
async fn a_url_that_names_webhooks_opens_a_consumer_as_any_other_does() {
    let consumer = railbus::Consumer::open("webhook://127.0.0.1:0/").await.unwrap();
    assert_eq!(consumer.group(), "webhook");
    consumer.on("a").run(async |_: Event| {}).await.unwrap();
    let error = consumer.bus().publish(("a", json!(1))).await.unwrap_err();
    assert!(error.to_string().contains("webhook brings events in"), "{error}");
    let error = consumer.bus().on("a").run(async |_: Event| {}).await.unwrap_err();
    assert!(error.to_string().contains("has no broadcast"), "{error}");
    let other = consumer.bus().on("a").group("two").then(railbus::delivery::Then::Drop);
    consumer.start().await.unwrap();
    let error = other.run(async |_: Event| {}).await.unwrap_err();
    assert!(error.to_string().contains("has one group"), "{error}");
    consumer.stop().await.unwrap();
    let _: Value = json!(null);
}
