//! Webhooks that a durable bus takes: told 202 when it has them, and not before.
#![cfg(all(feature = "webhook", feature = "sqlite", feature = "app"))]
#![allow(clippy::unwrap_used)]

mod hooked;

use hooked::{Client, post, request, server::Server};
use railbus::{
    Bus, Consumer, Event, Payload, Value,
    app::{App, AppSpec, Ended},
    webhook::{Signature, WebhookConsumer},
};
use serde_json::json;
use std::{collections::BTreeMap, fs, net::TcpListener};
use tokio::sync::{mpsc, watch};

#[tokio::test]
async fn senders_are_told_once_the_bus_has_their_events_whether_or_not_they_are_handled() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/hooks.db", folder.path().display());
    let jobs = Consumer::open(format!("{url}?group=jobs").as_str()).await.unwrap();
    let hooks = WebhookConsumer::accept("webhook://127.0.0.1:0/hooks", jobs).await.unwrap();
    let fails = async |_: Event| Err::<(), _>("the disk is full");
    hooks.on("order").retry(railbus::Retry::attempts(1)).run(fails).await.unwrap();
    hooks.start().await.unwrap();
    let address = hooks.address().unwrap();
    for _ in 0..2 {
        let answer = post(address, "/hooks", &[("webhook-id", "o-1")], r#"{"type":"order"}"#).await;
        assert_eq!((answer.status, answer.body.as_str()), (202, r#"{"status":"accepted"}"#));
    }
    // What nobody here wants may be wanted later.
    assert_eq!(post(address, "/hooks", &[], r#"{"type":"star"}"#).await.status, 202);
    hooks.bus().idle().await.unwrap();
    let letters = hooks.bus().keeper().unwrap().letters(&Default::default()).await.unwrap();
    assert_eq!(letters.len(), 1, "handled once, and given up");
    hooks.stop().await.unwrap();

    let (told, mut got) = mpsc::unbounded_channel();
    let other = Bus::open(url.as_str()).await.unwrap();
    let handle = async move |event: Event| told.send(event.event_type().to_owned()).unwrap();
    other.on("*").group("later").run(handle).await.unwrap();
    let mut all = [got.recv().await.unwrap(), got.recv().await.unwrap()];
    all.sort();
    assert_eq!(all, ["order", "star"]);
    other.close().await.unwrap();
}

#[tokio::test]
async fn settings_name_the_bus_and_one_that_forgets_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let map = json!({
        "backend": "webhook", "port": 0, "path": "/in", "mode": "accept", "group": "jobs",
        "max_workers": 2, "bus": format!("sqlite:{}/hooks.db", folder.path().display()),
    });
    let hooks = WebhookConsumer::open(map).await.unwrap();
    let (told, mut got) = mpsc::unbounded_channel();
    let handle = async move |n: Payload<Value>| told.send(Value::clone(&n)).unwrap();
    hooks.on("webhook").run(handle).await.unwrap();
    hooks.start().await.unwrap();
    assert_eq!(post(hooks.address().unwrap(), "/in", &[], "7").await.status, 202);
    assert_eq!(got.recv().await.unwrap(), json!(7));
    hooks.stop().await.unwrap();
    for (url, says) in [
        ("webhook://127.0.0.1:0/?mode=accept", "no bus is named"),
        ("webhook://127.0.0.1:0/?bus=memory:", "nothing says that it takes the events"),
        (
            "webhook://127.0.0.1:0/?mode=accept&bus=memory:%3Fgroup=g",
            "does not survive the process",
        ),
        ("webhook://127.0.0.1/", "no port is named"),
        ("webhook://127.0.0.1:http/", "is not a port"),
        ("webhook://127.0.0.1:0/?prot=1", "`prot` is not a setting"),
        ("webhook://192.0.2.1:0/", "can't listen on 192.0.2.1:0"),
        ("memory:", "`memory` takes no webhooks"),
    ] {
        let error = WebhookConsumer::open(url).await.unwrap_err();
        assert!(error.to_string().contains(says) && error.advice().is_some(), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn an_app_is_posted_to_and_all_that_it_took_is_handled() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let out = folder.path().join("out");
    let text = format!(
        r#"
        bus.url = "sqlite:app.db"
        [[input]]
        kind = "http"
        port = {port}
        path = "/hooks"
        scheme = "github"
        secret_env = "HOOK_SECRET"
        topic = "github:{{type}}"
        [steps.keep]
        command = ["sh", "-c", "cat >> {}; echo >> {}"]
        [pipelines.all]
        flow = "keep"
        [[on]]
        topic = "github:*"
        group = "g"
        pipeline = "all"
        limit = 1
        "#,
        out.display(),
        out.display(),
    );
    let path = folder.path().join("app.toml");
    fs::write(&path, text).unwrap();
    let secret = ("HOOK_SECRET".to_owned(), "It's a Secret to Everybody".to_owned());
    let spec = AppSpec::load(&path, [secret].into_iter()).unwrap();
    let app = App::open(&spec).await.unwrap();
    assert_eq!(app.endless_input(), Some("/hooks"));
    let bus = app.bus().clone();
    let (stop, stopped) = watch::channel(false);
    let posting = async {
        let address = ([127, 0, 0, 1], port).into();
        let github = Signature::github("It's a Secret to Everybody").unwrap();
        let mut client = Client::to(address).await;
        for n in [0, 1, 2, 1] {
            let body = json!({ "n": n }).to_string();
            let signed = github.sign("", body.as_bytes()).remove(0).1;
            let id = format!("delivery-{n}");
            let headers = [
                ("x-hub-signature-256", signed.to_str().unwrap()),
                ("x-github-event", "push"),
                ("x-github-delivery", &*id),
            ];
            client.send(request("/hooks", &headers, &body)).await;
            assert_eq!(client.answer().await.unwrap().status, 202);
        }
        assert_eq!(post(address, "/hooks", &[], "{}").await.status, 401);
        bus.idle().await.unwrap();
        stop.send_replace(true);
    };
    let (ran, ()) = tokio::join!(app.run(false, stopped), posting);
    let (ended, summary) = ran.unwrap();
    assert!(matches!(ended, Ended::Stopped) && !summary.has_failures(), "{summary:?}");
    let lines = fs::read_to_string(out).unwrap();
    let mut seen = BTreeMap::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        *seen.entry(line.to_owned()).or_insert(0) += 1;
    }
    let each: Vec<_> = seen.iter().map(|(line, count)| (line.as_str(), *count)).collect();
    assert_eq!(each, [(r#"{"n":0}"#, 1), (r#"{"n":1}"#, 1), (r#"{"n":2}"#, 1)]);
}

#[tokio::test]
async fn an_app_posts_what_it_is_told_to_and_what_is_not_taken_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::says(&["200 OK", "422 No", "200 OK"]).await;
    let lines = ["order.placed", "order.paid", "star", "order.shipped"];
    let lines = lines.map(|kind| json!({ "type": kind }).to_string() + "\n").concat();
    fs::write(folder.path().join("in.ndjson"), lines).unwrap();
    let text = format!(
        r#"
        bus.url = "sqlite:app.db"
        [[input]]
        kind = "ndjson"
        path = "in.ndjson"
        [[on]]
        type = "order.*"
        group = "to-crm"
        url = "{}"
        allow_private = true
        scheme = "github"
        secret_env = "CRM"
        limit = 1
        "#,
        server.url(),
    );
    let path = folder.path().join("app.toml");
    fs::write(&path, text).unwrap();
    let secret = ("CRM".to_owned(), "hunter2".to_owned());
    let app = App::open(&AppSpec::load(&path, [secret].into_iter()).unwrap()).await.unwrap();
    let (bus, (_stop, stopped)) = (app.bus().clone(), watch::channel(false));
    let (ended, summary) = app.run(true, stopped).await.unwrap();
    assert!(matches!(ended, Ended::Idle) && summary.has_failures(), "{summary:?}");
    let github = Signature::github("hunter2").unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    for one in &asked {
        let signed = github.sign("", one.body.as_bytes()).remove(0).1;
        assert_eq!(one.headers["x-hub-signature-256"], signed.to_str().unwrap());
    }
    let letters = bus.keeper().unwrap().letters(&Default::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("answered 422"), "{}", letters[0].reason);
}
