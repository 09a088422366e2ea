//! `railbus doctor` and `railbus backends` beside a Redis server: what is there, and what is wrong.

use super::{Scene, documents, text};
use railbus_testbed::Redis;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

const BOTH: [&str; 2] = ["redis", "redis-streams"];

/// Runs the doctor; returns its code and what each check says.
fn doctor(url: &str) -> (i32, Vec<(String, String, String)>) {
    let ran = Scene::new().run(&["doctor", url, "--json"]);
    let [document] = &documents(&ran.out)[..] else { panic!("{} {}", ran.out, ran.err) };
    let told = |check: &Value| {
        let advice = check["advice"].as_str().unwrap_or_default();
        let said = format!("{}; {advice}", text(check, "detail"));
        (text(check, "name").to_owned(), text(check, "status").to_owned(), said)
    };
    (ran.code, document["checks"].as_array().unwrap().iter().map(told).collect())
}

/// Asserts that the server fails with these words, and that no secret is shown.
fn fails(url: &str, words: &[&str]) {
    let (code, checks) = doctor(url);
    assert_eq!(code, 1, "{url} {checks:?}");
    let failed: Vec<_> = checks.iter().filter(|(_, status, _)| status == "fail").collect();
    assert!(!failed.is_empty(), "{url} {checks:?}");
    for word in words {
        let is_said = failed.iter().any(|(_, _, said)| said.contains(word));
        assert!(is_said, "no `{word}` of {url}: {failed:?}");
    }
    assert!(!format!("{checks:?}").contains("S3CRET"), "{checks:?}");
}

#[test]
fn a_server_that_is_well_is_told_in_all_its_parts() {
    let redis = Redis::options().appendonly(true).start().unwrap();
    for scheme in BOTH {
        let (code, checks) = doctor(&redis.url(scheme));
        assert_eq!(code, 0, "{checks:?}");
        let of = |name: &str| checks.iter().find(|(of, ..)| of == name).map(|(_, s, d)| (s, d));
        let (status, said) = of("server").unwrap();
        assert!(status == "ok" && said.starts_with("Redis 7"), "{checks:?}");
        assert_eq!(of("ping").unwrap().0, "ok", "{checks:?}");
        assert_eq!(of("persistence").is_some(), scheme == "redis-streams");
    }
    // Nothing was made by looking.
    assert_eq!(redis.command(&["KEYS", "*"]).unwrap(), "");
    for (policy, status, lost) in [
        ("always", "ok", "what is confirmed is on the disk"),
        ("everysec", "ok", "a server that is killed may lose its last second"),
        ("no", "warn", "everysec or always"),
    ] {
        redis.command(&["CONFIG", "SET", "appendfsync", policy]).unwrap();
        let (_, checks) = doctor(&redis.url("redis-streams"));
        let (_, found, said) = checks.iter().find(|(name, ..)| name == "persistence").unwrap();
        assert!(found == status && said.contains(policy) && said.contains(lost), "{checks:?}");
    }
    redis.command(&["CONFIG", "SET", "appendonly", "no"]).unwrap();
    let (code, checks) = doctor(&redis.url("redis-streams"));
    let warned = checks.iter().any(|(name, status, _)| name == "persistence" && status == "warn");
    assert!(code == 0 && warned, "{checks:?}");
}

#[test]
fn what_is_wrong_with_an_address_is_told_with_what_to_do() {
    let redis = Redis::options().password("right").databases(4).start().unwrap();
    let encrypted = Redis::options().tls(true).start().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = nobody.local_addr().unwrap();
    drop(nobody);
    for scheme in BOTH {
        let at = redis.address();
        fails(&format!("{scheme}://no-such-host.invalid"), &["can't be reached", "host"]);
        fails(&format!("{scheme}://{closed}"), &["can't be reached", "port"]);
        fails(&format!("{scheme}://:S3CRET@{at}"), &["user and password", "`password`"]);
        fails(&format!("{scheme}://{at}"), &["wants a password", "RAILBUS_BUS__PASSWORD"]);
        fails(&format!("{scheme}://:right@{at}/9"), &["no such database", "`database`"]);
        let tls = format!("{scheme}://:right@{at}?tls=true&connect_timeout=1s");
        fails(&tls, &["TLS"]);
        let plain = format!("{scheme}://{}?connect_timeout=1s", encrypted.address());
        fails(&plain, &["port and tls"]);
        let stranger = format!("{scheme}://{}?tls=true", encrypted.address());
        fails(&stranger, &["encrypted", "tls_ca"]);
        assert_eq!(doctor(&encrypted.url(scheme)).0, 0);
    }
}

/// Answers as a server of this version does.
fn pretend(version: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                let hello = "%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n".to_owned();
                let info = format!("redis_version:{version}\r\n");
                let asks = String::from_utf8_lossy(&bytes[..read]).to_uppercase();
                let answer = match asks.contains("HELLO") {
                    true => hello,
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

#[test]
fn a_server_that_is_too_old_and_a_user_with_too_few_rights_are_told() {
    let redis = Redis::start().unwrap();
    for rights in ["+ping +info", "+info +hget"] {
        let mut command = vec!["ACL", "SETUSER", "app", "reset", "on", ">S3CRET", "~*", "&*"];
        command.extend(rights.split(' '));
        redis.command(&command).unwrap();
        let url = format!("redis-streams://app:S3CRET@{}", redis.address());
        fails(&url, &["may not", "ACL SETUSER app +xlen"]);
    }
    for scheme in BOTH {
        let port = pretend("5.0.7");
        fails(&format!("{scheme}://127.0.0.1:{port}"), &["too old", "6.2 or later"]);
    }
}

#[test]
fn both_are_listed_with_what_they_take() {
    let scene = Scene::new();
    let all = scene.json(&["backends"]);
    let listed = all.iter().map(ToString::to_string).collect::<String>();
    for word in BOTH.into_iter().chain(["max_len", "tls_ca", "format", "retention", "database"]) {
        assert!(listed.contains(word), "no {word} in {listed}");
    }
}

#[test]
fn a_password_is_taken_from_the_environment_so_that_nobody_sees_it_among_the_arguments() {
    let redis = Redis::options().password("S3CRET").start().unwrap();
    let scene = Scene::new();
    let whole = redis.url("redis-streams");
    let bare = whole.replace(":S3CRET@", "");
    assert_ne!(whole, bare);
    let said = scene.broken(&["groups", "ls", &bare]);
    for part in ["the server wants a password", "RAILBUS_BUS__PASSWORD"] {
        assert!(said.contains(part), "{said}");
    }
    let elsewhere = whole.replace("redis-streams:", "redis:");
    for (name, value, code) in [
        ("RAILBUS_BUS__PASSWORD", "S3CRET", 0),
        ("RAILBUS_BUS__PASSWORD", "other", 1),
        ("RAILBUS_URL", &whole, 0),
        // That is another bus.
        ("RAILBUS_URL", &elsewhere, 1),
    ] {
        for command in [["groups", "ls"], ["dlq", "ls"]] {
            let run = scene.command(&command).arg(&bare).env(name, value).output().unwrap();
            assert_eq!(run.status.code(), Some(code), "{command:?} {name} {run:?}");
        }
    }
}
