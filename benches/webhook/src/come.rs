//! W1: 64 senders, each request signed, read and handed on. W3: one sender among idle connections.

use crate::load::{SECRET, send, timed};
use axum::{Router, body::Body, extract::Request, response::Response, routing::post};
use harness::{Contender, Goal, Result, Row, Sheet, Timed};
use http_body_util::BodyExt;
use railbus::{Event, json, webhook::WebhookConsumer};
use ring::hmac;
use serde_json::value::RawValue;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

const SENDERS: u64 = 64;
const IDLE: usize = 5_000;

static RUN: AtomicU64 = AtomicU64::new(0);

pub(crate) fn many(sheet: &mut Sheet) -> Result<()> {
    let runtime = Runtime::new()?;
    let base = Contender::base("axum, HMAC checked, parsed", |times| {
        runtime.block_on(bare(times, SENDERS))
    });
    let subject =
        Contender::subject("railbus", |times| runtime.block_on(railbus(times, SENDERS, 0)));
    let row = Row::new("W1", "webhook in, 1 KiB, 64 senders", Goal::Rate(0.85));
    sheet.measure(row.with(base.times(50_000)).with(subject.times(50_000)))
}

pub(crate) fn among_idle(sheet: &mut Sheet) -> Result<()> {
    let runtime = Runtime::new()?;
    let base =
        Contender::base("no idle connections", |times| runtime.block_on(railbus(times, 1, 0)));
    let subject = Contender::subject("5,000 idle connections", |times| {
        runtime.block_on(railbus(times, 1, IDLE))
    });
    let row = Row::new("W3", "webhook in, one sender among idle connections", Goal::Times(1.1));
    sheet.measure(row.with(base.times(10_000)).with(subject.times(10_000)))
}

async fn bare(times: u64, senders: u64) -> Result<Timed> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let handled = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&handled);
    let answer = move |request: Request| {
        let (key, counter) = (key.clone(), Arc::clone(&counter));
        async move { check(&key, &counter, request).await }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = axum::serve(listener, Router::new().route("/hooks", post(answer)));
    let serving = tokio::spawn(async move { serving.await });
    let run = RUN.fetch_add(1, Relaxed);
    let timed = timed(async {
        send(address, times, senders, run).await?;
        Ok(handled.load(Relaxed))
    })
    .await;
    serving.abort();
    timed
}

async fn check(key: &hmac::Key, counter: &AtomicU64, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let said = head.headers.get("x-hub-signature-256").and_then(|said| said.to_str().ok());
    let said =
        said.and_then(|said| said.strip_prefix("sha256=")).map(str::as_bytes).unwrap_or_default();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    let said: Vec<u8> = said.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let good = hmac::verify(key, &body, &said).is_ok()
        && serde_json::from_slice::<&RawValue>(&body).is_ok();
    counter.fetch_add(u64::from(good), Relaxed);
    let mut response = Response::new(Body::from("{\"status\":\"ok\"}"));
    response
        .headers_mut()
        .insert("content-type", axum::http::HeaderValue::from_static("application/json"));
    response
}

async fn railbus(times: u64, senders: u64, idle: usize) -> Result<Timed> {
    let map = json!({
        "backend": "webhook", "port": 0, "path": "/hooks", "scheme": "github", "secret": SECRET,
    });
    let hooks = WebhookConsumer::open(map).await?;
    let handled = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&handled);
    let handle = move |_: &Event| {
        counter.fetch_add(1, Relaxed);
    };
    hooks.on("order.placed").run(handle).await?;
    hooks.start().await?;
    let address = hooks.address().ok_or("it listens nowhere")?;
    let waiting = connections(address, idle).await?;
    let run = RUN.fetch_add(1, Relaxed);
    let timed = timed(async {
        send(address, times, senders, run).await?;
        Ok(handled.load(Relaxed))
    })
    .await;
    drop(waiting);
    hooks.stop().await?;
    timed
}

async fn connections(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(TcpStream::connect(address).await?);
    }
    Ok(all)
}
