//! Opening a bus on Redis: what can be set, and what is wrong is said at once.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Error, ErrorKind, Event, json, options::Options};
use railbus_testbed::{Fault, Proxy, Redis};
use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

const BOTH: [&str; 2] = ["redis", "redis-streams"];

async fn refused(url: &str) -> Error {
    let began = Instant::now();
    let error = Bus::open(url).await.expect_err(url);
    // Bounded, so that a loop of tries is noticed; no measure of speed.
    assert!(began.elapsed() < Duration::from_secs(30), "{error} came too late");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_the_documents_opens_the_same_bus() {
    let redis = Redis::options().password("s3cret").start().unwrap();
    let port = redis.port();
    for map in [
        json!({"backend": "redis", "host": "127.0.0.1", "port": port, "password": "s3cret", "ssl": false, "db": 3, "channel_prefix": "shop"}),
        json!({"kind": "redis-streams", "redis_url": format!("redis://:s3cret@127.0.0.1:{port}"), "stream_name": "orders", "max_len": 1000}),
        json!({"url": format!("redis-streams://:s3cret@127.0.0.1:{port}/2?prefix=a&stream=b&max_len=100&retention=1h&timeout=2s&connect_timeout=2s")}),
    ] {
        let options = Options::from_map(map.as_object().unwrap()).unwrap();
        let bus = Bus::open(options).await.unwrap();
        bus.publish(Event::new("order.placed").topic("shop").payload(1)).await.unwrap();
        bus.close().await.unwrap();
    }
    assert_eq!(redis.command(&["EXISTS", "orders"]).unwrap(), "1");
    // One key of one event, in the database that was named.
    let keys = redis.command(&["INFO", "keyspace"]).unwrap();
    assert!(keys.contains("db0:keys=1,") && keys.contains("db2:keys=1,"), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_in_another_database_hears_nothing_of_streams() {
    let redis = Redis::start().unwrap();
    let url = redis.url("redis-streams");
    for database in 0..2 {
        let bus = Bus::open(format!("{url}/{database}").as_str()).await.unwrap();
        bus.publish(Event::new("a").payload(database)).await.unwrap();
        let keeper = bus.keeper().unwrap();
        assert!(keeper.groups().await.unwrap().is_empty());
    }
    let info = redis.command(&["INFO", "keyspace"]).unwrap();
    assert!(info.contains("db0:keys=1") && info.contains("db1:keys=1"), "{info}");
}

#[tokio::test]
async fn unknown_keys_and_wrong_values_are_refused_with_advice() {
    for (url, said) in [
        ("redis://h?prefx=a", "did you mean `prefix`"),
        ("redis://h?max_len=3", "not a setting of redis"),
        ("redis-streams://h?max_len=0", "max_len"),
        ("redis-streams://h?max_len=many", "max_len"),
        ("redis-streams://h?trim=hard", "max_len"),
        ("redis-streams://h?trim=hard&max_len=100&retention=1h", "retention"),
        ("redis-streams://h?trim=some", "trim"),
        ("redis-streams://h?stream=a%7Bb", "brace"),
        ("redis://h?timeout=0s", "timeout"),
        ("redis://h?connect_timeout=soon", "duration"),
        ("redis://h?tls_ca=ca.pem", "rediss:"),
        ("rediss://h?tls_cert=c.pem", "tls_key"),
        ("redis://me@h", "password"),
        ("redis://a,b", "several hosts"),
        ("redis-streams://h?retention=long", "duration"),
    ] {
        let error = refused(url).await;
        let whole = format!("{error} {}", error.advice().unwrap_or_default());
        assert!(whole.contains(said), "{url}: {whole}");
        assert!(!error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn files_that_can_not_be_read_are_named() {
    let error = refused("rediss://127.0.0.1:1?tls_ca=/nowhere/ca.pem").await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_an_error_at_once_and_shows_no_secret() {
    let redis = Redis::options().password("right").start().unwrap();
    for scheme in BOTH {
        for identity in [":wr0ng@", "", "someone:wr0ng@"] {
            let error = refused(&format!("{scheme}://{identity}{}", redis.address())).await;
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            assert!(!format!("{error:?}").contains("wr0ng"), "{error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_access_list_is_let_in_and_may_do_what_it_may() {
    let redis = Redis::options().user("orders", "pw").start().unwrap();
    for scheme in BOTH {
        let bus = Bus::open(redis.url(scheme).as_str()).await.unwrap();
        bus.publish(Event::new("a").payload(1)).await.unwrap();
    }
    let rules = ["ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@read", "+@connection"];
    redis.command(&rules).unwrap();
    let url = format!("redis-streams://reader:pw@{}", redis.address());
    let error = Bus::open(url.as_str())
        .await
        .unwrap()
        .publish(Event::new("a").payload(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    redis.command(&["ACL", "SETUSER", "other", "on", ">pw", "~else*", "+@all"]).unwrap();
    let error = refused(&format!("redis-streams://other:pw@{}", redis.address())).await;
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_an_error_at_once() {
    let redis = Redis::options().databases(4).start().unwrap();
    for scheme in BOTH {
        let error = refused(&format!("{}/7", redis.url(scheme))).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("no such database"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_an_error_that_may_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = refused(&format!("redis://127.0.0.1:{port}")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_is_given_up() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    proxy.fault(Fault::BlackHole);
    for scheme in BOTH {
        let url = format!("{scheme}://{}?connect_timeout=300ms", proxy.address());
        let error = refused(&url).await;
        assert!(error.is_retryable(), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_connections_trust_what_they_are_told_to() {
    let redis = Redis::options().tls(true).start().unwrap();
    for scheme in BOTH {
        let bus = Bus::open(redis.url(scheme).as_str()).await.unwrap();
        bus.publish(Event::new("a").payload(1)).await.unwrap();
        bus.close().await.unwrap();
        let strangers = redis.strangers_ca_path();
        let (address, ca) = (redis.address(), strangers.display());
        let error = refused(&format!("{scheme}://{address}?tls=true&tls_ca={ca}")).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        // Without its own authority the system's don't know the server either.
        let error = refused(&format!("{scheme}://{address}?tls=true")).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        let error = refused(&format!("{scheme}://{address}?connect_timeout=1s")).await;
        assert!(error.is_retryable(), "{error:?}");
    }
    let plain = Redis::start().unwrap();
    let url = format!("rediss://{}?tls_ca={}", plain.address(), redis.ca_path().display());
    let error = refused(&format!("{url}&connect_timeout=1s")).await;
    assert!(error.advice().unwrap().contains("takes TLS"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let redis = Redis::options().client_certificates().start().unwrap();
    for scheme in BOTH {
        let bus = Bus::open(redis.url(scheme).as_str()).await.unwrap();
        bus.publish(Event::new("a").payload(1)).await.unwrap();
        let address = redis.address();
        let ca = redis.ca_path();
        let url = format!("{scheme}://{address}?tls=true&tls_ca={}", ca.display());
        let error = refused(&format!("{url}&connect_timeout=1s")).await;
        assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unavailable), "{error:?}");
    }
}

/// Answers as a server of another version does, to whoever connects.
fn pretend(version: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                let said = String::from_utf8_lossy(&bytes[..read]).to_uppercase();
                let info = format!("redis_version:{version}\r\n");
                let hello = "%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n";
                let answer = match said.contains("HELLO") {
                    true => hello.to_owned(),
                    false => format!("${}\r\n{info}\r\n", info.len()),
                };
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_refused_with_its_version() {
    let port = pretend("6.0.16");
    for scheme in BOTH {
        let error = refused(&format!("{scheme}://127.0.0.1:{port}")).await;
        assert_eq!(error.kind(), ErrorKind::Version, "{error:?}");
        assert!(error.to_string().contains("6.0.16"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_holds_something_else_is_told() {
    let redis = Redis::start().unwrap();
    redis.command(&["SET", "events", "mine"]).unwrap();
    let error = refused(&redis.url("redis-streams")).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.advice().unwrap().contains("stream"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_a_cluster_that_serves_no_slots_says_so() {
    let redis = Redis::options().arg("--cluster-enabled", "yes").start().unwrap();
    let error = refused(&redis.url("redis-streams")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "no slots are served: {error:?}");
    assert!(error.to_string().contains("cluster"), "{error}");
}
