//! What is sent.

use super::{run, server::Server};
use railbus::{
    error::ErrorKind,
    event::Event,
    step::{Flow, Input, InputParts, Step, StepError, Store},
    steps::http::HttpStep,
    store,
};
use serde_json::json;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn the_payload_is_posted_as_it_is_with_what_it_is_for() {
    let server = Server::says("200 OK", "7");
    assert_eq!(run(&HttpStep::post(&server.url).unwrap()).await.unwrap(), Flow::next(json!(7)));
    let sent = server.last();
    assert_eq!((&*sent.line, &*sent.body), ("POST /step HTTP/1.1", r#"{"n":1}"#));
    for (name, value) in [
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("railbus-event-id", "e-1"),
        ("railbus-event-type", "order.placed"),
        ("railbus-topic", "shop:orders"),
        ("railbus-correlation-id", "c-1"),
        ("railbus-attempt", "3"),
        ("railbus-try", "2"),
    ] {
        assert_eq!(sent.header(name), Some(value), "{name}");
    }
    assert!(sent.header("user-agent").unwrap().starts_with("railbus/"));
    assert!(sent.header("traceparent").is_none());
}

#[tokio::test]
async fn a_trace_goes_on() {
    let server = Server::says("204 No Content", "");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let event = Event::new("e").metadata("traceparent", trace).metadata("tracestate", "a=1");
    let parts = InputParts::default().event(event.payload(1));
    let step = HttpStep::post(&server.url).unwrap();
    let store = Store::default();
    assert_eq!(step.run(Input::of(&store, &parts)).await.unwrap(), Flow::Next(None));
    let sent = server.last();
    assert_eq!((sent.header("traceparent"), sent.header("tracestate")), (Some(trace), Some("a=1")));
    // Of a run without an event, that of the context around it.
    let parts = InputParts::default();
    let store = store! { "input" => 1 };
    let work = railbus::context::scope("import").metadata("traceparent", trace);
    work.run(step.run(Input::of(&store, &parts))).await.unwrap();
    assert_eq!(server.last().header("traceparent"), Some(trace));
    // What is not valid goes nowhere.
    let work = railbus::context::scope("import").metadata("traceparent", "00-scope");
    work.run(step.run(Input::of(&store, &parts))).await.unwrap();
    assert!(server.last().header("traceparent").is_none());
    assert!(server.last().header("railbus-event-id").is_none());
}

#[tokio::test]
async fn named_input_is_one_object() {
    let server = Server::says("204 No Content", "");
    let step = HttpStep::post(&server.url).unwrap().input(["payment", "order"]);
    let (store, parts) = (store! { "order" => 7, "payment" => "card" }, InputParts::default());
    step.run(Input::of(&store, &parts)).await.unwrap();
    assert_eq!(server.last().body, r#"{"payment":"card","order":7}"#);
    let error = step.run(Input::of(&Store::default(), &parts)).await.unwrap_err();
    assert_eq!(error.kind(), "input");
    assert_eq!(server.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn event_data_can_not_break_out_of_a_header() {
    let server = Server::says("204 No Content", "");
    let event = Event::new("größe").id("a b%\"\u{1f600}").payload(1);
    let parts = InputParts::default().event(event);
    let step = HttpStep::post(&server.url).unwrap();
    step.run(Input::of(&Store::default(), &parts)).await.unwrap();
    let sent = server.last();
    assert_eq!(sent.header("railbus-event-type"), Some("gr%C3%B6%C3%9Fe"));
    assert_eq!(sent.header("railbus-event-id"), Some("a%20b%25%22%F0%9F%98%80"));
}

#[tokio::test]
async fn headers_are_sent_and_never_shown() {
    let server = Server::says("500 Oh", "");
    let step = HttpStep::post(format!("{}?token=hunter2", server.url))
        .and_then(|step| step.header("Authorization", "Bearer hunter2"))
        .and_then(|step| step.header("accept", "application/problem+json"))
        .unwrap();
    let error = run(&step).await.unwrap_err();
    let sent = server.last();
    assert_eq!(sent.line, "POST /step?token=hunter2 HTTP/1.1");
    assert_eq!(sent.header("authorization"), Some("Bearer hunter2"));
    assert_eq!(sent.header("accept"), Some("application/problem+json"));
    let told = format!("{step:?} {error:?} {}", error.line());
    assert!(told.contains("/step?…") && !told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn a_connection_is_used_again_also_by_another_step() {
    let server = Server::says("200 OK", "1");
    for _ in 0..5 {
        run(&HttpStep::post(&server.url).unwrap()).await.unwrap();
    }
    assert_eq!(server.requests.lock().unwrap().len(), 5);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_connection_of_another_runtime_is_not_used_even_if_that_stands_still() {
    let server = Server::says("200 OK", "1");
    let step = HttpStep::post(&server.url).unwrap();
    let mut runtimes = Vec::new();
    for n in 1..=12 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&step)).unwrap();
        assert_eq!(server.connections.load(Ordering::SeqCst), n);
        runtimes.push(runtime);
    }
}

#[test]
fn without_a_runtime_a_step_says_what_it_needs() {
    let step = HttpStep::post("http://127.0.0.1:1/").unwrap();
    let parts = InputParts::default().event(Event::new("e").payload(1));
    let store = Store::default();
    let came = futures_util::future::FutureExt::now_or_never(step.run(Input::of(&store, &parts)));
    assert_eq!(came.unwrap().unwrap_err().kind(), "unsupported");
}

#[test]
fn a_url_is_one_and_holds_no_password() {
    for (url, why) in [
        ("", "not a URL"),
        ("example.org/x", "not a URL"),
        ("/x", "has no scheme"),
        ("example.org", "has no scheme"),
        ("ftp://example.org/x", "`ftp` is not a scheme"),
        ("http:///x", "not a URL"),
        ("http://a b/", "not a URL"),
        ("https://me:hunter2@example.org/", "a user or a password"),
        ("me:hunter2@example.org", "a user or a password"),
        ("http://hunter2@example.org?x", "a user or a password"),
        ("http://example.org:99999/x", "`99999` is not a port"),
        ("http://example.org:abc/x", "`abc` is not a port"),
        ("http://example.org:0/x", "`0` is not a port"),
        ("http://example.org:/x", "`` is not a port"),
        ("http://example.org/é", "has `é` in it, which is not ASCII"),
        ("http://example.org/x#hunter2", "what follows one is never sent"),
    ] {
        let error = HttpStep::post(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(error.to_string().contains(why), "{url}: {error}");
        assert!(error.advice().is_some() && !format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    assert!(HttpStep::post("https://[::1]:8443/a@b?c=d@e").is_ok());
}

#[test]
fn a_header_is_one_and_not_one_of_the_requests_own() {
    let step = HttpStep::post("http://localhost/").unwrap();
    for (name, value, why) in [
        ("a b", "x", "not a header's name"),
        ("", "x", "not a header's name"),
        ("x", "hunter2\r\ny: z", "the value of the header `x`"),
        ("Content-Length", "1", "the request itself"),
        ("Host", "x", "the request itself"),
        ("Railbus-Try", "1", "the request itself"),
    ] {
        let error = step.clone().header(name, value).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn what_can_not_be_encoded_is_not_sent() {
    let server = Server::says("200 OK", "1");
    let step = HttpStep::post(&server.url).unwrap().input(["order"]);
    let store = store! { "order" => railbus::step::Opaque(1) };
    let error = step.run(Input::of(&store, &InputParts::default())).await.unwrap_err();
    assert!(matches!(error, StepError::Exception(e) if e.kind == "encode"));
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}
