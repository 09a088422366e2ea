//! Where a bus opens and how: every form of input, what contradicts itself, what is never told.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    backend::Start,
    backends,
    bus::Bus,
    delivery::Then,
    error::{Error, ErrorKind, Result, chain},
    event::Event,
    options::{IntoOptions, Options, Setting},
};
use serde_json::{Value, json};
use std::time::Duration;

fn map(value: &Value) -> Result<Options> {
    Options::from_map(value.as_object().unwrap())
}

/// Asserts what an error says, and what it advises.
fn says(error: &Error, message: &str, hint: &str) {
    assert!(error.to_string().contains(message), "{error}, not {message}");
    let advice = error.advice().unwrap_or_default();
    assert!(advice.contains(hint), "{error}: {advice}, not {hint}");
}

#[tokio::test]
async fn a_bus_opens_from_every_form_of_the_same_options() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.db").to_str().unwrap().to_owned();
    let url = format!("sqlite:{path}?retention=1h");
    let value = json!({ "backend": "sqlite", "path": path, "retention": "1h" });
    let options = Options::parse(&url).unwrap();
    assert_eq!(map(&value).unwrap(), options);
    assert_eq!(value.clone().into_options().unwrap(), options);
    assert_eq!(json!(url).into_options().unwrap(), options);
    let variables = [("RAILBUS_URL", url.as_str()), ("HOME", "x"), ("RAILBUS_OTHER", "x")];
    assert_eq!(Options::from_variables(variables).unwrap(), options);
    let named = [
        ("RAILBUS_BUS__BACKEND", "sqlite"),
        ("RAILBUS_BUS__PATH", &path),
        ("RAILBUS_BUS__RETENTION", "1h"),
    ];
    assert_eq!(Options::from_variables(named).unwrap(), options);

    for bus in [
        Bus::open(&*url).await,
        Bus::open(&url).await,
        Bus::open(url.clone()).await,
        Bus::open(value.clone()).await,
        Bus::open(value.as_object().unwrap().clone()).await,
        Bus::open(&options).await,
        Bus::open(options).await,
    ] {
        let bus = bus.unwrap();
        assert_eq!(bus.capability().name, "sqlite");
        bus.close().await.unwrap();
    }
    says(&Bus::open(json!(7)).await.unwrap_err(), "by a URL or a map", "sqlite:orders.db");
}

#[cfg(feature = "app")]
#[tokio::test]
async fn a_bus_opens_from_a_toml_table() {
    let table: toml::Table = toml::from_str("backend = 'Memory'\nwire = 'always'").unwrap();
    assert_eq!(
        table.clone().into_options().unwrap(),
        Options::parse("memory:?wire=always").unwrap()
    );
    Bus::open(table.clone()).await.unwrap();
    Bus::open(toml::Value::Table(table)).await.unwrap();
    Bus::open(toml::Value::from("memory:")).await.unwrap();
    assert!(Bus::open(toml::Value::from(7)).await.is_err());
}

#[test]
fn aliases_mean_the_same_as_the_names_they_stand_for() {
    let same = [
        (
            json!({ "url": "postgres://u:p@h:5432/d?prefix=ev" }),
            json!({
                "backend": "postgres", "connection_string": "postgresql://u:p@h:5432/d",
                "channel_prefix": "ev",
            }),
        ),
        (
            json!({ "url": "redis://:p@h:6379/2" }),
            json!({
                "kind": "redis", "host": "h", "port": 6379, "password": "p", "db": 2, "ssl": false,
                "tls": false,
            }),
        ),
        (
            json!({ "url": "rediss://cache:6379" }),
            json!({
                "backend": "redis", "host": "cache", "port": 6379, "ssl": true,
            }),
        ),
        (
            json!({ "url": "redis-streams://h?stream=orders" }),
            json!({
                "backend": "redis-streams", "redis_url": "redis://h", "stream_name": "orders",
            }),
        ),
        (
            json!({ "url": "postgresql://[::1]:5432/d%2Fe" }),
            json!({
                "backend": "postgres", "host": "::1", "port": "5432", "database": "d/e",
            }),
        ),
    ];
    for (one, other) in same {
        let other = map(&other).unwrap();
        let mut one = map(&one).unwrap();
        if other.text("tls") == Some("false") {
            one.set("ssl", "false");
        }
        assert_eq!(one, other);
    }
    let hosts = Options::parse("nats://a:4222,b:4222").unwrap();
    assert_eq!((hosts.text("host"), hosts.text("port")), (Some("a:4222,b:4222"), None));
    assert_eq!(hosts.to_string(), "nats://a:4222,b:4222");
    let encoded = Options::parse("redis://us%3Aer:p%40%2F%3F%23%25@h").unwrap();
    assert_eq!((encoded.text("user"), encoded.text("password")), (Some("us:er"), Some("p@/?#%")));
    let raw = Options::parse("redis://:100%p@ss@h").unwrap();
    assert_eq!((raw.text("password"), raw.text("host")), (Some("100%p@ss"), Some("h")));
}

#[test]
fn keys_that_contradict_each_other_are_told_by_name() {
    let cases = [
        (json!({ "url": "redis://h", "host": "x" }), "`url` and `host` both say where"),
        (json!({ "redis_url": "redis://h", "port": 1 }), "`redis_url` and `port` both say where"),
        (json!({ "url": "sqlite:a", "path": "b" }), "`url` and `path` both say where"),
        (json!({ "url": "redis://h", "backend": "postgres" }), "`url` and `backend` both say"),
        (json!({ "url": "sqlite:a", "kind": "memory" }), "`url` and `kind` both say where"),
        (json!({ "url": "x:", "connection_string": "x:" }), "`url` and `connection_string` say"),
        (json!({ "kind": "redis", "backend": "redis" }), "`kind` and `backend` say the same"),
        (json!({ "url": "rediss://h", "ssl": false }), "`url` and `ssl` contradict"),
        (json!({ "backend": "rediss", "ssl": false }), "`backend` and `ssl` contradict"),
        (json!({ "url": "redis://h/1", "db": 2 }), "`url` and `db` contradict"),
        (json!({ "backend": "redis", "ssl": true, "tls": false }), "`ssl` and `tls` contradict"),
        (json!({ "url": "redis://:a@h", "password": "b" }), "`url` and `password` contradict"),
        (json!({ "url": "rediss://h?tls=false" }), "`rediss` and `tls` contradict"),
        (json!({ "url": "sqlite:a?retention=1h", "retention": "2h" }), "`url` and `retention`"),
        (json!({ "url": "sqlite:a?retention=1h&retention=1h" }), "`retention` is given twice"),
        (json!({ "backend": "redis", "path": "a.db" }), "`path` names a file, and redis is a"),
    ];
    for (value, message) in cases {
        says(&map(&value).unwrap_err(), message, "");
    }
    // What is said twice and the same is no contradiction.
    assert!(map(&json!({ "url": "rediss://h:1/2", "ssl": true, "db": 2 })).is_ok());
}

#[test]
fn a_backend_must_be_named() {
    for value in [json!({}), json!({ "retention": "1h" }), json!({ "path": "a.db" })] {
        says(&map(&value).unwrap_err(), "no backend is named", "set `url`");
    }
    says(&map(&json!({ "backend": "" })).unwrap_err(), "`backend` is empty", "name a bus");
    says(&map(&json!({ "url": " " })).unwrap_err(), "`url` is empty", "name a bus");
    says(&map(&json!({ "url": ["a"] })).unwrap_err(), "`url` must be a text, a number", "");
    for url in ["", "orders.db", "1:", ":x"] {
        says(&Options::parse(url).unwrap_err(), "starts with a scheme", "sqlite:PATH");
    }
}

#[test]
fn the_environment_names_a_bus_and_its_keys_come_over_the_url() {
    let read = |variables: &[(&str, &str)]| Options::from_variables(variables.iter().copied());
    says(&read(&[]).unwrap_err(), "RAILBUS_URL is not set", "RAILBUS_URL=sqlite:orders.db");
    says(&read(&[("RAILBUS_BUS__RETENTION", "1h")]).unwrap_err(), "RAILBUS_URL is not set", "");
    says(&read(&[("RAILBUS_ULR", "sqlite:a")]).unwrap_err(), "is not set", "mean RAILBUS_URL?");
    says(&read(&[("RAILBUS_URL", "")]).unwrap_err(), "`RAILBUS_URL` is empty", "name a bus");
    says(&read(&[("RAILBUS_URL", "x")]).unwrap_err(), "in: RAILBUS_URL", "sqlite:PATH");
    let over = read(&[("RAILBUS_URL", "sqlite:a?retention=1h"), ("RAILBUS_BUS__RETENTION", "2h")]);
    assert_eq!(over.unwrap().text("retention"), Some("2h"));
    let secret = read(&[("RAILBUS_URL", "redis://h"), ("RAILBUS_BUS__PASSWORD", "p")]).unwrap();
    assert_eq!(secret, Options::parse("redis://:p@h").unwrap());
    let both = read(&[("RAILBUS_URL", "redis://h"), ("RAILBUS_BUS__HOST", "x")]).unwrap_err();
    says(&both, "`RAILBUS_URL` and `RAILBUS_BUS__HOST` both say where", "keep `RAILBUS_URL`");
    let both =
        [("RAILBUS_URL", "redis://h"), ("RAILBUS_BUS__SSL", "true"), ("RAILBUS_BUS__TLS", "false")];
    says(&read(&both).unwrap_err(), "`RAILBUS_BUS__SSL` and `RAILBUS_BUS__TLS` contradict", "");
    let port = read(&[("RAILBUS_URL", "redis://h"), ("RAILBUS_BUS__PORT", "99999")]).unwrap_err();
    assert_eq!(port.kind(), ErrorKind::Config);
    let port = read(&[("RAILBUS_BUS__KIND", "redis"), ("RAILBUS_BUS__DB", "many")]).unwrap_err();
    says(&port, "`many` is not a value of `RAILBUS_BUS__DB`", "a whole number from 0 on");
    let first = read(&[("RAILBUS_BUS__URL", "sqlite:b"), ("RAILBUS_URL", "sqlite:a")]).unwrap();
    assert_eq!(first.address(), "a");
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_the_nearest_known_one_whoever_said_it() {
    let refused = async |options: Result<Options>| Bus::open(options.unwrap()).await.unwrap_err();
    let near = "did you mean `retention`? Known: synchronous, retention";
    for options in [
        Options::parse("sqlite:/none/a.db?retenton=1h"),
        map(&json!({ "backend": "sqlite", "path": "/none/a.db", "retenton": "1h" })),
        Options::from_variables([
            ("RAILBUS_URL", "sqlite:/none/a.db"),
            ("RAILBUS_BUS__RETENTON", "1h"),
        ]),
    ] {
        says(&refused(options).await, "`retenton` is not a setting of sqlite", near);
    }
    let wire = refused(Options::parse("memory:?wier=always")).await;
    says(&wire, "`wier` is not a setting of memory", "did you mean `wire`?");
    for key in ["host", "port", "user", "password", "db", "database", "ssl", "tls"] {
        for backend in ["memory", "sqlite"] {
            let error = refused(map(&json!({ "backend": backend, key: "1" }))).await;
            says(&error, &format!("`{key}` is not a setting of {backend}"), "where a server is");
        }
    }
    for key in ["channel_prefix", "stream_name", "anything"] {
        let error = refused(map(&json!({ "backend": "memory", key: "1" }))).await;
        says(&error, &format!("`{key}` is not a setting of memory"), "nown: wire");
    }
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_told_with_its_key_and_what_is_allowed() {
    let redis = |key: &str, value: Value| map(&json!({ "backend": "redis", key: value }));
    for (key, value, allowed) in [
        ("ssl", json!("maybe"), "allowed: true or false"),
        ("tls", json!(1), "allowed: true or false"),
        ("port", json!(99999), "allowed: a whole number from 1 to 65535"),
        ("port", json!(0), "allowed: a whole number from 1 to 65535"),
        ("port", json!(1.5), "allowed: a whole number from 1 to 65535"),
        ("db", json!("orders"), "allowed: a whole number from 0 on"),
        ("host", json!(""), "allowed: a name or an address"),
    ] {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let message = format!("`{text}` is not a value of `{key}`");
        says(&redis(key, value).unwrap_err(), &message, allowed);
    }
    says(&Options::parse("redis://h:99999").unwrap_err(), "`99999` is not a value of `port`", "");
    says(&Options::parse("redis://h/x").unwrap_err(), "is not a database", "a whole number");
    says(&Options::parse("redis:h").unwrap_err(), "no // after its scheme", "redis://HOST:PORT");
    for (url, message, allowed) in [
        ("memory:?wire=perhaps", "`perhaps` is not a value of `wire`", "lazy, always"),
        ("sqlite:/none/a?synchronous=x", "`x` is not a value of `synchronous`", "full, normal"),
        ("sqlite:/none/a?retention=x", "`x` is not a duration (setting: retention)", "30s"),
        ("sqlite:/none/a?max_size=x", "`x` is not a size (setting: max_size)", "64MiB"),
    ] {
        says(&Bus::open(url).await.unwrap_err(), message, allowed);
    }
    // What the environment or a caller sets later is checked by the backend.
    let mut later = Options::parse("redis://h").unwrap();
    later.set("ssl", "maybe");
    let known = ["host", "tls"].map(|key| Setting { key, help: "" });
    says(&later.check(&known).unwrap_err(), "`maybe` is not a value of `tls`", "true or false");
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_told_apart_from_a_slip() {
    let mut built: Vec<_> = backends::TABLE.iter().map(|row| row.scheme).collect();
    built.sort_unstable();
    let has = format!("this build has: {}", built.join(", "));
    let is_built = |name: &str| built.contains(&name);
    for name in ["nats", "sqs"].into_iter().filter(|name| !is_built(name)) {
        let error = Bus::open(format!("{name}://h")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        says(&error, &format!("the backend `{name}` is not in this build"), &has);
    }
    for (url, near) in [
        ("memry:", "did you mean `memory`? This build has: memory"),
        match is_built("nats") {
            true => ("nast://h", "did you mean `nats`? This build has: memory"),
            false => {
                ("nast://h", "did you mean `nats`? It is not in this build, which has: memory")
            }
        },
        ("kafka://h", "this build has: memory"),
    ] {
        let error = Bus::open(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        says(&error, "there is no backend `", near);
    }
    for url in ["Memory:", "MEMORY:"] {
        Bus::open(url).await.unwrap();
    }
    Bus::open(json!({ "backend": "Memory" })).await.unwrap();
}

/// URLs with a password, well and badly written.
const SECRETS: [&str; 40] = [
    "redis://me:hunter2@h:1/0",
    "redis://:hunter2@h",
    "redis://hunter2@h",
    "nats://hunter2@h:4222",
    "REDISS://me:hunter2@h/0?x=1",
    "postgres://me:hunter2@h/db",
    "postgresql://me:a@hunter2@h/db",
    "postgres://me:a?hunter2@h/db",
    "postgres://me:a?hunter2=b@h/db",
    "postgres://me:a?b=hunter2@h/db",
    "postgres://me:a#hunter2@h/db",
    "postgres://me:hunter2#a@h/db",
    "postgres://me:a%hunter2@h/db",
    "postgres://me:a/hunter2@h/db",
    "postgres://me:hunter2/a@h/db",
    "postgres://me:hunter2",
    "postgres://me:hunter2/db",
    "postgres://me:hunter2,x@h,i/db",
    "postgres://me:hunter2,h:1/db",
    "postgres:me:hunter2@h/db",
    "postgres:/me:hunter2@h/db",
    "postgres//me:hunter2@h/db",
    "//me:hunter2@h/db",
    "://me:hunter2@h/db",
    "me:hunter2@h/db",
    "hunter2@h/db",
    "hunter2@h:5432/db",
    "postgres://h/db?password=hunter2",
    "postgres://h/db?pasword=hunter2",
    "postgres://h/db?PGPASSWORD=hunter2&password=hunter2",
    "sqs://queue?aws_secret_access_key=hunter2",
    "redsi://me:hunter2@h",
    "redsi://me:a/hunter2@h",
    "redsi://me:a?hunter2@h",
    "redsi://hunter2@h",
    "memory://me:hunter2@h",
    "memory:hunter2@h",
    "sqlite:/none/me:hunter2@h/db",
    "sqlite:/none/a.db?password=hunter2",
    "sqlite:/none/a.db?token=hunter2&synchronous=no",
];

fn kept(what: &str, said: &str) {
    assert!(!said.contains("hunter2"), "{what} is told: {said}");
}

fn kept_by(what: &str, error: &Error) {
    let advice = error.advice().unwrap_or_default();
    kept(what, &format!("{error} {error:?} {error:#?} {} {advice}", chain(error)));
}

/// Asserts that neither the options nor any error of theirs tells the secret.
async fn keeps(what: &str, options: Result<Options>) {
    let options = match options {
        Ok(options) => options,
        Err(error) => return kept_by(what, &error),
    };
    kept(what, &format!("{options} {options:?} {options:#?}"));
    if let Ok(row) = backends::find(&options) {
        (row.check)(&options).err().into_iter().for_each(|error| kept_by(what, &error));
    }
    let known = [Setting { key: "retention", help: "" }];
    options.check(&known).err().into_iter().for_each(|error| kept_by(what, &error));
    match Bus::open(options).await {
        Ok(bus) => kept(what, &format!("{bus:?}")),
        Err(error) => kept_by(what, &error),
    }
}

#[tokio::test]
async fn a_secret_is_told_by_no_debug_display_error_or_advice() {
    for url in SECRETS {
        keeps(url, Options::parse(url)).await;
        for key in ["url", "connection_string", "backend", "kind", "host"] {
            keeps(url, map(&json!({ key: url }))).await;
        }
        keeps(url, map(&json!({ "url": url, "backend": "redis", "password": "other" }))).await;
        keeps(url, map(&json!({ "backend": url, "url": "redis://h" }))).await;
        keeps(url, Options::from_variables([("RAILBUS_URL", url)])).await;
        keeps(url, Options::from_variables([("RAILBUS_BUS__KIND", url)])).await;
    }
    for key in ["password", "Password", "passwd", "pasword", "token", "secret", "api_key", "auth"] {
        for backend in ["redis", "sqlite", "memory", "redsi"] {
            keeps(key, map(&json!({ "backend": backend, key: "hunter2" }))).await;
            keeps(key, map(&json!({ "backend": backend, key: ["hunter2"] }))).await;
            let name = format!("RAILBUS_BUS__{key}");
            let variables = [("RAILBUS_BUS__KIND", backend), (name.as_str(), "hunter2")];
            keeps(key, Options::from_variables(variables)).await;
        }
        let beside = json!({ "url": "redis://:other@h", key: "hunter2", "password": "hunter2" });
        keeps(key, map(&beside)).await;
    }
}

#[tokio::test]
async fn what_a_backend_cannot_do_is_refused_naming_one_that_can() {
    let folder = tempfile::tempdir().unwrap();
    let (memory, url) = (Bus::new(), format!("sqlite:{}/a.db", folder.path().display()));
    let held = || Event::new("later").delay(Duration::from_secs(3600)).payload(1);
    let refused = memory.keeper().unwrap().replay("g", Start::Oldest).await.unwrap_err();
    says(&refused, "keeps no events that are settled", "use a backend that does: sqlite");

    let stored = Bus::open(url).await.unwrap();
    stored.publish(held()).await.unwrap();
    let short = Duration::from_millis(1);
    let on = stored.on("later").group("g").lease(short).run(|_: &Event| ());
    says(&on.await.unwrap_err(), "leases of at least 100ms", "set .lease(..) within it");
    let dead = stored.on("later").then(Then::DeadLetter).run(|_: &Event| ());
    says(&dead.await.unwrap_err(), "has no dead letters", "give the subscription a group");
    stored.close().await.unwrap();
}
