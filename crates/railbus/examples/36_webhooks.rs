//! Events posted from one place to another: signed on their way out, and answered when they are handled.

use railbus::{
    Bus, Event, Payload, Retry, State, Value, json,
    webhook::{Endpoint, Signature, WebhookConsumer},
};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn completed(event: Event, payment: Payload<Value>, said: State<UnboundedSender<String>>) {
    let line = format!("Payment completed: {} of {}", payment["amount"], event.source());
    let _ = said.send(line);
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    // Where they come in; from elsewhere the secret would be a variable's: secret_env=HOOK_SECRET.
    let (said, mut lines) = unbounded_channel::<String>();
    let hooks = WebhookConsumer::open(json!({
        "backend": "webhook", "host": "127.0.0.1", "port": 0, "path": "/webhooks/events",
        "scheme": "standard", "secret": SECRET,
    }))
    .await?;
    let _ = hooks.bus().clone().state(said);
    hooks.on("payment.completed").run(completed).await?;
    hooks.start().await?;

    // Where they go out: a handler like any other.
    let address = hooks.address().map(|address| address.to_string()).unwrap_or_default();
    let url = format!("http://{address}/webhooks/events");
    let there = Endpoint::new(&url)?.sign(Signature::standard(SECRET)?).allow_private();
    let bus = Bus::open("memory:").await?;
    let retry = Retry::attempts(5).backoff(Duration::from_secs(1));
    bus.on("payment.*").group("to-books").retry(retry).run(there).await?;

    for amount in [42, 7] {
        let payment = json!({ "amount": amount });
        bus.publish(Event::new("payment.completed").source("till-1").payload(payment)).await?;
    }
    bus.publish(("payment.failed", json!({ "amount": 1 }))).await?; // nobody there wants it
    bus.idle().await?;
    lines.close();
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        all.push(line);
    }
    all.sort();
    println!("{}", all.join("\n"));
    println!(
        "posted: {}, given up: {}",
        bus.counters().succeeded.get(),
        bus.counters().failed.get()
    );

    // Someone who does not know the secret.
    let stranger = Endpoint::new(&url)?.sign(Signature::standard("c3RyYW5nZXI=")?).allow_private();
    let refused = stranger.post(&Event::new("payment.completed").payload(json!({}))).await;
    let told = refused.err().map(|error| error.to_string()).unwrap_or_default();
    println!("{}", told.replace(&address, "HOST"));

    bus.close().await?;
    hooks.stop().await
}
