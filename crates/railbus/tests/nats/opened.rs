//! Opening a bus: what can be set, and what is wrong is said at once.

use super::scene::{ask, event, open, publish, with};
use railbus::{
    Bus, Error, ErrorKind, Event,
    backends::{checkup::Status, nats},
    options::Options,
};
use railbus_testbed::Nats;
use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

pub(crate) async fn refused(url: &str) -> Error {
    let began = Instant::now();
    let error = Bus::open(url).await.expect_err(url);
    // Bounded, so that a loop of tries is noticed; no measure of speed.
    assert!(began.elapsed() < Duration::from_secs(30), "{error} came too late");
    error
}

#[tokio::test]
async fn unknown_keys_and_wrong_values_are_refused_with_advice() {
    for (url, said) in [
        ("nats://h?prefx=a", "did you mean `prefix`"),
        ("nats://h?prefix=a..b", "begin subjects"),
        ("nats://h?prefix=a%20b", "begin subjects"),
        ("nats://h?prefix=a.*", "begin subjects"),
        ("nats://h?stream=a.b", "the name of a stream"),
        ("nats://h?domain=a.b", "a domain"),
        ("nats://h?storage=disk", "memory"),
        ("nats://h?replicas=9", "replicas"),
        ("nats://h?max_len=0", "max_len"),
        ("nats://h?max_bytes=0", "max_bytes"),
        ("nats://h?max_bytes=much", "size"),
        ("nats://h?trim=some", "settled"),
        ("nats://h?duplicate_window=1ms", "100ms"),
        ("nats://h?timeout=0s", "timeout"),
        ("nats://h?connect_timeout=soon", "duration"),
        ("nats://h?jetstream=maybe", "jetstream"),
        ("nats://h?tls=false&tls_ca=ca.pem", "tls = true"),
        ("nats://h?tls_cert=c.pem", "tls_key"),
        ("nats://h?password=a", "without a user"),
        ("nats://me:p@h?token=t", "both say who asks"),
        ("nats://h/orders", "not a setting of nats"),
        ("nats://127.0.0.1:1?creds=/nowhere/a.creds", "/nowhere/a.creds"),
        ("nats://127.0.0.1:1?nkey=/nowhere/a.nk", "/nowhere/a.nk"),
        ("nats://127.0.0.1:1?tls_ca=/nowhere/ca.pem", "/nowhere/ca.pem"),
    ] {
        let error = refused(url).await;
        let whole = format!("{error} {}", error.advice().unwrap_or_default());
        assert!(whole.contains(said), "{url}: {whole}");
        assert!(!error.is_retryable(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_or_speaks_otherwise_is_told() {
    let error = refused("nats://127.0.0.1:1").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // Somebody who accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let error = refused(&format!("nats://{address}?connect_timeout=300ms")).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let error = refused("nats://no.such.host.invalid").await;
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_one_that_is_there_is_used() {
    let server = Nats::start().unwrap();
    let url = format!("nats://127.0.0.1:1,{}", server.address());
    let bus = Bus::open(&*url).await.unwrap();
    bus.publish(event(1)).await.unwrap();
    bus.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_jetstream_broadcasts_alone_are_there_if_no_more_is_asked_for() {
    let server = Nats::options().without_jetstream().start().unwrap();
    let error = refused(&server.url()).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().unwrap().contains("jetstream=false"), "{error}");

    let url = with(&server.url(), "jetstream=false");
    let (near, far) = (Bus::open(&*url).await.unwrap(), Bus::open(&*url).await.unwrap());
    let (says, mut said) = tokio::sync::mpsc::unbounded_channel();
    far.on("tick")
        .run(move |e: &Event| says.send(e.payload::<u32>().unwrap()).unwrap_or_default())
        .await
        .unwrap();
    near.publish(event(7)).await.unwrap();
    assert_eq!(said.recv().await, Some(7));
    let error = near.on("tick").group("g").run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().unwrap().contains("memory"), "{error:?}");
    assert!(near.keeper().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_others_are_not_taken_over() {
    let server = Nats::start().unwrap();
    let made = r#"{"name":"events","subjects":["theirs.>"]}"#;
    ask(&server.url(), "$JS.API.STREAM.CREATE.events", made).await;
    let error = refused(&server.url()).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("theirs.>"), "{error}");
    open(&with(&server.url(), "stream=ours")).await;
    let error = refused(&with(&server.url(), "prefix=events.more")).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.advice().unwrap().contains("prefix"), "{error:?}");
    let error = refused(&with(&server.url(), "prefix=apart&replicas=3")).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_take_is_too_large() {
    let server = Nats::options().setting("max_payload", "64KB").start().unwrap();
    let backend = open(&server.url()).await;
    let most = backend.capability().payload_max;
    assert!(most > 32 << 10 && most < 64 << 10, "{most}");
    let sized = |size: usize| Event::new("big").payload("x".repeat(size));
    publish(&backend, &[sized(most - 2)]).await;
    let error = backend.publish(&[sized(most).into()]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let heavy = Event::new("big").metadata("m", "x".repeat(80 << 10)).payload(1);
    let error = backend.publish(&[heavy.into()]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    publish(&backend, &[event(1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_changes_nothing() {
    let server = Nats::start().unwrap();
    let options = Options::parse(&server.url()).unwrap();
    let found = nats::look(&options);
    assert!(found.begins && found.checks.iter().all(|c| c.status == Status::Ok), "{found:?}");
    let info = ask(&server.url(), "$JS.API.STREAM.INFO.events", "").await;
    assert_eq!(info["error"]["code"], 404);
    open(&with(&server.url(), "storage=memory")).await;
    let found = nats::look(&options);
    let stream = found.checks.iter().find(|c| c.name == "stream").unwrap();
    assert!(!found.begins && stream.status == Status::Warn, "{found:?}");
    server.stop().unwrap();
    let found = nats::look(&options);
    assert!(found.checks.iter().any(|c| c.status == Status::Fail), "{found:?}");
}
