//! What answers come to.

use super::{exception, failure, run, server::Server};
use railbus::{
    Pipeline, Retry, StepDef,
    event::Event,
    step::Flow,
    steps::http::{HttpStep, Statuses},
};
use serde_json::json;

fn step(server: &Server) -> HttpStep {
    HttpStep::post(&server.url).unwrap()
}

#[tokio::test]
async fn a_good_answer_is_a_value_or_none() {
    for (status, body, came) in [
        ("200 OK", "7", Flow::next(json!(7))),
        ("201 Created", r#" {"id": "x"} "#, Flow::next(json!({"id": "x"}))),
        ("200 OK", "null", Flow::next(json!(null))),
        ("202 Accepted", r#"{"failure": 1, "b": 2}"#, Flow::next(json!({"failure": 1, "b": 2}))),
        ("200 OK", "", Flow::Next(None)),
        ("200 OK", " \n", Flow::Next(None)),
        ("204 No Content", "", Flow::Next(None)),
    ] {
        assert_eq!(run(&step(&Server::says(status, body))).await.unwrap(), came, "{status} {body}");
    }
}

#[tokio::test]
async fn a_good_answer_may_say_no_as_commands_do() {
    let server = Server::says("200 OK", r#"{"failure": {"message": "no", "value": 3}}"#);
    assert_eq!(failure(&step(&server)).await, ("no".into(), json!(3)));
    let server = Server::says("200 OK", r#"{"exception": {"kind": "gateway", "message": "x"}}"#);
    assert_eq!(exception(&step(&server)).await, ("gateway".into(), "x".into()));
}

#[tokio::test]
async fn a_good_answer_that_is_no_json_is_an_exception() {
    for body in ["OK", "{", "{} {}", r#"{"failure": 3}"#, r#"{"exception": "x"}"#] {
        let server = Server::with("200 OK", "content-type: text/plain\r\n", body);
        let (kind, message) = exception(&step(&server)).await;
        assert_eq!(kind, "output", "{body}");
        assert!(message.starts_with("POST http://127.0.0.1:"), "{message}");
        assert!(message.contains("answered 200 OK with"), "{message}");
    }
}

#[tokio::test]
async fn a_client_error_is_a_failure_with_status_and_body() {
    let long = "x".repeat(500);
    for (body, message, value) in [
        (r#"{"message": "sold out"}"#, "409 Conflict: sold out", json!({"message": "sold out"})),
        (r#"{"error": "no"}"#, "409 Conflict: no", json!({"error": "no"})),
        (
            r#"{"error": {"message": "in"}}"#,
            "409 Conflict: in",
            json!({"error": {"message": "in"}}),
        ),
        (r#"{"detail": "d", "error": 3}"#, "409 Conflict: d", json!({"detail": "d", "error": 3})),
        (r#"{"code": 3}"#, r#"409 Conflict: {"code": 3}"#, json!({"code": 3})),
        ("<p>\n no\u{1b} ", "409 Conflict: <p> no\u{fffd}", json!("<p>\n no\u{1b} ")),
        ("", "409 Conflict", json!("")),
        (&*long, &*format!("409 Conflict: {}…", "x".repeat(200)), json!(long)),
    ] {
        let came = failure(&step(&Server::says("409 Conflict", body))).await;
        assert_eq!(came, (message.into(), json!({"status": 409, "body": value})));
    }
    let own = Server::says("422 No", r#"{"failure": {"message": "own", "value": [1]}}"#);
    assert_eq!(failure(&step(&own)).await, ("own".into(), json!([1])));
    // An exception is not what a client error says.
    let other = Server::says("400 No", r#"{"exception": {"kind": "k", "message": "m"}}"#);
    assert!(failure(&step(&other)).await.0.starts_with("400 Bad Request: "));
}

#[tokio::test]
async fn what_may_be_better_later_is_an_exception() {
    for status in [408, 425, 429, 500, 502, 503, 504, 599] {
        let server = Server::says(&format!("{status} Later"), r#"{"message": "busy"}"#);
        let (kind, message) = exception(&step(&server)).await;
        assert_eq!(kind, "http", "{status}");
        assert!(message.contains(&format!("/step answered {status} ")), "{message}");
        assert!(message.ends_with(": busy"), "{message}");
    }
    let named = Server::says("503 X", r#"{"exception": {"kind": "gateway", "message": "down"}}"#);
    assert_eq!(exception(&step(&named)).await, ("gateway".into(), "down".into()));
    let asks = Server::with("429 X", "retry-after: 120\r\n", "");
    let (_, message) = exception(&step(&asks)).await;
    assert!(
        message.ends_with("Too Many Requests; it asks to wait (Retry-After: 120)"),
        "{message}"
    );
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let elsewhere = Server::says("200 OK", "1");
    for (status, url) in [
        ("301 Moved", format!("{}?token=hunter2", elsewhere.url)),
        ("302 Found", elsewhere.url.replace("http://", "http://me:hunter2@")),
        ("307 Moved", format!("{}#hunter2", elsewhere.url)),
        ("308 Moved", elsewhere.url.clone()),
    ] {
        let to = format!("location: {url}\r\n");
        let (kind, message) = exception(&step(&Server::with(status, &to, ""))).await;
        assert_eq!(kind, "http");
        assert!(message.contains(&format!("redirects to {} are not", elsewhere.url)), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert!(elsewhere.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn statuses_mean_what_is_said() {
    let statuses = Statuses::default().success([404]).unwrap().failure(["5xx"]).unwrap();
    let statuses = statuses.retry([409, 501]).unwrap();
    let step = |status: &str| {
        let server = Server::says(status, "7");
        HttpStep::post(&server.url).unwrap().statuses(statuses.clone())
    };
    assert_eq!(run(&step("404 No")).await.unwrap(), Flow::next(json!(7)));
    assert_eq!(failure(&step("503 No")).await.1, json!({"status": 503, "body": 7}));
    assert_eq!(exception(&step("409 No")).await.0, "http");
    assert_eq!(exception(&step("501 No")).await.0, "http");
    assert_eq!(failure(&step("400 No")).await.1["status"], 400);
    for wrong in ["99", "600", "6xx", "0xx", "xx", "5x", "+2xx", "", "ok", " 200"] {
        assert!(Statuses::default().retry([wrong]).is_err(), "{wrong}");
    }
    assert!(Statuses::default().retry([500]).unwrap().retry([500]).is_ok());
}

#[tokio::test]
async fn a_retry_tries_exceptions_of_its_kinds_again_and_failures_never() {
    let go = async |status: &str, retry: Retry| {
        let server = Server::says(status, "");
        let def = StepDef::of(HttpStep::post(&server.url).unwrap()).named("post").retry(retry);
        let pipeline = Pipeline::new("p").step(def).build().unwrap();
        let report = pipeline.run_event(&Event::new("e").payload(1), 1).await;
        assert!(report.error().is_some());
        let sent = server.requests.lock().unwrap();
        sent.iter().filter_map(|r| r.header("railbus-try").map(str::to_owned)).collect::<Vec<_>>()
    };
    let retry = || Retry::attempts(3).backoff_factor(std::time::Duration::ZERO);
    assert_eq!(go("503 X", retry().on_kind("http")).await, ["1", "2", "3"]);
    assert_eq!(go("503 X", retry().on_kind("connection")).await, ["1"]);
    assert_eq!(go("409 X", retry()).await, ["1"]);
}
