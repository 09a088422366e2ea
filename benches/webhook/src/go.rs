//! W2: events posted to a server that says 200, 64 at once.

use crate::load::timed;
use axum::{Router, extract::Request, routing::post};
use bytes::Bytes;
use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use railbus::{
    Event, json,
    webhook::{Endpoint, Mode},
};
use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{net::TcpListener, runtime::Runtime};

const AT_ONCE: u64 = 64;

/// A server that says 200, and how often it did.
struct Place {
    address: SocketAddr,
    arrived: Arc<AtomicU64>,
}

pub(crate) fn many(sheet: &mut Sheet) -> Result<()> {
    let runtime = Runtime::new()?;
    let place = runtime.block_on(place())?;
    let base = Contender::base("hyper's client", |times| runtime.block_on(bare(&place, times)));
    let subject = Contender::subject("railbus", |times| {
        runtime.block_on(railbus(&place, times, Mode::Payload))
    });
    let peer = Contender::peer("railbus, as CloudEvents", |times| {
        runtime.block_on(railbus(&place, times, Mode::Binary))
    });
    let row = Row::new("W2", "webhook out, 1 KiB, 64 at once", Goal::Rate(0.9));
    let row = row.with(base.times(20_000)).with(subject.times(20_000)).with(peer.times(20_000));
    sheet.measure(row)
}

async fn place() -> Result<Place> {
    let arrived = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&arrived);
    let answer = move |request: Request| {
        let counter = Arc::clone(&counter);
        async move {
            let whole = request.into_body().collect().await.is_ok();
            counter.fetch_add(u64::from(whole), Relaxed);
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = axum::serve(listener, Router::new().route("/hooks", post(answer)));
    tokio::spawn(async move { serving.await });
    Ok(Place { address, arrived })
}

/// Does something so many times, 64 at once.
async fn all<F: Future<Output = Result<()>> + Send>(
    place: &Place,
    times: u64,
    one: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Result<Timed> {
    let before = place.arrived.load(Relaxed);
    timed(async {
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|task| {
                let one = one.clone();
                tokio::spawn(async move {
                    for number in (task..times).step_by(AT_ONCE as usize) {
                        one(number).await?;
                    }
                    Ok::<(), Failed>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(place.arrived.load(Relaxed) - before)
    })
    .await
}

async fn bare(place: &Place, times: u64) -> Result<Timed> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let url = format!("http://{}/hooks", place.address);
    let body = Bytes::from(crate::load::body());
    all(place, times, move |_| {
        let (client, url, body) = (client.clone(), url.clone(), body.clone());
        async move {
            let request = hyper::Request::post(url)
                .header("content-type", "application/json")
                .body(Full::new(body))?;
            let answer = client.request(request).await?;
            answer.into_body().collect().await?;
            Ok(())
        }
    })
    .await
}

async fn railbus(place: &Place, times: u64, mode: Mode) -> Result<Timed> {
    let endpoint = Endpoint::new(format!("http://{}/hooks", place.address))?;
    let endpoint = endpoint.allow_private().mode(mode);
    let payload: railbus::Value = serde_json::from_str(&crate::load::body())?;
    let event = Event::new("order.placed").payload(json!(payload));
    all(place, times, move |_| {
        let (endpoint, event) = (endpoint.clone(), event.clone());
        async move { Ok(endpoint.post(&event).await?) }
    })
    .await
}
