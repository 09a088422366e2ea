//! Order by key: eight workers, and each order's events one after another, through failures.

use railbus::{Bus, Event, Retry, delivery::Delivery};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// What was done, by order.
type Done = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let (bus, done) = (Bus::open("memory:").await?, Done::default());
    let log = Arc::clone(&done);
    let handle = async move |delivery: Delivery| {
        let event = delivery.event();
        let order = event.key().unwrap_or("?").to_owned();
        // The first order's payment fails twice: the order waits, the others don't.
        let fails = order == "order 1" && event.event_type() == "order.paid";
        if fails && delivery.attempt() < 3 {
            return Err("the bank does not answer");
        }
        let line = format!("{} (try {})", event.event_type(), delivery.attempt());
        log.lock().unwrap_or_else(|e| e.into_inner()).entry(order).or_default().push(line);
        Ok(())
    };
    let retry = Retry::attempts(5).backoff_factor(Duration::from_millis(10));
    bus.on("order.*").group("ledger").ordered_by_key().limit(8).retry(retry).run(handle).await?;

    for event_type in ["order.placed", "order.paid", "order.shipped"] {
        for order in 1..=3 {
            bus.publish(Event::new(event_type).key(format!("order {order}"))).await?;
        }
    }
    bus.idle().await?;
    for (order, lines) in &*done.lock().unwrap_or_else(|e| e.into_inner()) {
        println!("{order}: {}", lines.join(", "));
    }
    bus.close().await
}
