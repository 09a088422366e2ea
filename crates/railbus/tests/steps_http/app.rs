//! Steps that are requests, in an app file.

use super::server::Server;
use railbus::app::{App, AppSpec};
use std::fs;
use tokio::sync::watch;

#[tokio::test]
async fn a_request_is_a_step_of_an_app() {
    let server = Server::says("200 OK", r#"{"paid":true}"#);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    let line = r#"{"type":"order.placed","order":7}"#;
    fs::write(folder.path().join("orders.ndjson"), format!("{line}\n")).unwrap();
    let text = format!(
        r#"
        bus.url = "memory:"
        input = [{{ kind = "ndjson", path = "orders.ndjson" }}]
        pipelines.fulfil.flow = "charge -> confirm"
        on = [{{ type = "order.*", pipeline = "fulfil" }}]
        [steps.charge]
        post = "{url}"
        headers_env = {{ authorization = "AUTH" }}
        output = "payment"
        [steps.confirm]
        post = "{url}"
        input = ["payment"]
        "#,
        url = server.url
    );
    fs::write(&path, text).unwrap();
    let environment = [("AUTH".to_owned(), "Bearer 123".to_owned())];
    let spec = AppSpec::load(&path, environment.into_iter()).unwrap();
    let app = App::open(&spec).await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    let (_, summary) = app.run(true, stopped).await.unwrap();
    assert!(!summary.has_failures(), "{summary:?}");
    let sent = server.requests.lock().unwrap();
    let bodies: Vec<_> = sent.iter().map(|request| &*request.body).collect();
    assert_eq!(bodies, [line, r#"{"payment":{"paid":true}}"#]);
    assert_eq!(sent[0].header("authorization"), Some("Bearer 123"));
    assert_eq!(sent[1].header("authorization"), None);
}
