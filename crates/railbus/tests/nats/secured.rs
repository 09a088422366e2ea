//! Who is let in, and how connections are encrypted.

use super::{
    opened::refused,
    scene::{event, open, publish, with},
};
use railbus::{Bus, ErrorKind};
use railbus_testbed::Nats;
use std::fs;

/// A pair of keys that the server's own documentation shows.
const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_told_so_once() {
    let server = Nats::options().user("app", "s3c@ret").start().unwrap();
    publish(&open(&server.url()).await, &[event(1)]).await;
    let at = server.address();
    for url in [
        format!("nats://{at}"),
        format!("nats://app:wrong@{at}"),
        format!("nats://nobody:s3c%40ret@{at}"),
        format!("nats://token@{at}"),
    ] {
        let error = refused(&url).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{url}: {error}");
        assert!(!error.is_retryable() && error.advice().is_some(), "{error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_keys_let_in() {
    let server = Nats::options().token("t0ken").start().unwrap();
    publish(&open(&server.url()).await, &[event(1)]).await;
    publish(&open(&format!("nats://{}?token=t0ken", server.address())).await, &[event(2)]).await;
    assert_eq!(refused(&format!("nats://t@{}", server.address())).await.kind(), ErrorKind::Denied);

    let server = Nats::options().nkey(PUBLIC).start().unwrap();
    let file = server.folder().join("seed.nk");
    fs::write(&file, format!("{SEED}\n")).unwrap();
    publish(&open(&format!("{}?nkey={}", server.url(), file.display())).await, &[event(1)]).await;
    fs::write(&file, "no seed").unwrap();
    let error = refused(&format!("{}?nkey={}", server.url(), file.display())).await;
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_changed_later_is_an_error_of_each_call() {
    let server = Nats::options().user("app", "first").start().unwrap();
    let bus = Bus::open(&*with(&server.url(), "timeout=500ms")).await.unwrap();
    bus.publish(event(1)).await.unwrap();
    server.stop().unwrap();
    server.let_in("app", "second").unwrap();
    server.start_again().unwrap();
    let mut last = None;
    // The first may still find the connection that broke.
    for n in 0..20 {
        let error = bus.publish(event(n)).await.unwrap_err();
        last = Some(error.kind());
        if last == Some(ErrorKind::Denied) {
            break;
        }
    }
    assert_eq!(last, Some(ErrorKind::Denied));
    server.stop().unwrap();
    server.let_in("app", "first").unwrap();
    server.start_again().unwrap();
    let again = async { while bus.publish(event(1)).await.is_err() {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_do_is_told_with_the_subject() {
    let rights = r#"publish: { deny: ["events.secret.>"] }, subscribe: ">""#;
    let server = Nats::options().user("app", "pw").rights(rights).start().unwrap();
    let bus = Bus::open(&*server.url()).await.unwrap();
    bus.publish(event(1)).await.unwrap();
    let secret = railbus::Event::new("a").topic("secret.plans").payload(1);
    let error = bus.publish(secret).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("events.secret.plans"), "{error}");
    bus.publish(event(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_and_certificates_looked_at() {
    let server = Nats::options().tls(true).user("app", "pw").start().unwrap();
    publish(&open(&server.url()).await, &[event(1)]).await;
    let bare = format!("nats://app:pw@{}", server.address());
    let stranger = format!("{bare}?tls_ca={}", server.strangers_ca_path().display());
    // The server insists, and the system trusts no authority of the test's own.
    for url in [&bare, &stranger] {
        let error = refused(url).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{url}: {error}");
        assert!(error.advice().unwrap().contains("tls_ca"), "{error:?}");
    }
    let plain = Nats::start().unwrap();
    let error = refused(&with(&plain.url(), "tls=true")).await;
    assert!([ErrorKind::Denied, ErrorKind::Unavailable].contains(&error.kind()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_shown_to_a_server_that_asks_for_one() {
    let server = Nats::options().client_certificates().start().unwrap();
    publish(&open(&server.url()).await, &[event(1)]).await;
    let ca = server.ca_path().display().to_string();
    let (cert, key) = (server.strangers_cert_path(), server.strangers_key_path());
    let none = format!("nats://{}?tls_ca={ca}", server.address());
    let theirs = format!("{none}&tls_cert={}&tls_key={}", cert.display(), key.display());
    for url in [none, theirs] {
        let error = refused(&url).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{url}: {error}");
    }
}
