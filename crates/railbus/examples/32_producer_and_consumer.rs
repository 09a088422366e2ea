//! A producer, and a consumer that takes its events up: `RAILBUS_URL` says where, such as
//! `redis-streams://localhost:6379?stream=events`; a file unless it is set.

use railbus::{
    Consumer, Event, Payload, Producer, State, Value,
    delivery::{Delivery, Lease, Nack, Settling},
    json,
};
use std::{
    env::{temp_dir, var},
    fs,
    process::{Command, id},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What the handlers say.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn say(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

async fn produce(url: &str) -> railbus::Result<()> {
    let producer = Producer::open(url).await?.source("web-app");
    let user = json!({ "user_id": "123", "email": "john@example.com" });
    producer.publish(("user.created", user)).await?;
    let order = json!({ "order_id": "ord_123", "user_id": "123", "amount": 99.99 });
    producer.publish(Event::new("order.placed").metadata("version", "1.0").payload(order)).await?;
    let changes = ["new@example.com", "newer@example.com"]
        .map(|email| ("user.updated", json!({ "user_id": "123", "changes": { "email": email } })));
    for stored in producer.publish_all(changes).await {
        stored?;
    }
    producer.close().await
}

async fn user_created(user: Payload<Value>, lines: State<Lines>) {
    lines.say(format!("Processing user creation: {}", user["email"]));
}

async fn order_placed(order: Event, lines: State<Lines>) {
    let version = &order.metadata()["version"];
    let id = order.get::<&str>("order_id").unwrap_or("?");
    lines.say(format!("Processing order: {id} from {}, version {version}", order.source()));
}

/// Settles by hand; where nothing is to be said about it, a handler returns a `Result` instead.
fn user_updated(delivery: Delivery, lease: Lease, lines: State<Lines>) -> Settling {
    let email = delivery.event().get::<&str>("changes.email").unwrap_or("?");
    if delivery.attempt() == 1 {
        let wait = Duration::from_millis(50);
        return lease.nack(Nack { delay: wait, reason: "the mail server is busy".into() });
    }
    lines.say(format!("Updated to {email} at try {}", delivery.attempt()));
    lease.ack()
}

/// Ends the program, as Ctrl-C would.
async fn stop(lines: State<Lines>) -> std::io::Result<()> {
    lines.say("stopping".into());
    Command::new("kill").arg(id().to_string()).status().map(drop)
}

async fn consume(url: &str, lines: Lines) -> railbus::Result<()> {
    let join = if url.contains('?') { '&' } else { '?' };
    // One worker, so that the lines come in order.
    let settings = "group=workers&poll_interval=10ms&batch_size=10&max_workers=1";
    let consumer = Consumer::open(format!("{url}{join}{settings}")).await?;
    let bus = consumer.bus().clone().state(lines);
    consumer.on("user.created").run(user_created).await?;
    consumer.on("order.placed").run(order_placed).await?;
    consumer.on("user.updated").manual().run(user_updated).await?;
    consumer.on("stop").run(stop).await?;
    consumer.start().await?; // fetching begins here, so that nothing comes before all are there
    bus.idle().await?;
    // It listens to signals before the event is published that makes one; it drains when one comes.
    tokio::try_join!(consumer.until_signal(), bus.publish(Event::new("stop"))).map(drop)
}

/// Runs producer and consumer on the backend that a URL names; returns what the handlers said.
pub(crate) async fn program(url: &str) -> railbus::Result<Vec<String>> {
    let lines = Lines::default();
    produce(url).await?;
    consume(url, lines.clone()).await?;
    Ok(lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let folder = temp_dir().join(format!("railbus-example-{}", id()));
    let url = var("RAILBUS_URL").unwrap_or_else(|_| {
        let _ = fs::create_dir_all(&folder);
        format!("sqlite:{}", folder.join("events.db").display())
    });
    let said = program(&url).await;
    let _ = fs::remove_dir_all(&folder);
    for line in said? {
        println!("{line}");
    }
    Ok(())
}
