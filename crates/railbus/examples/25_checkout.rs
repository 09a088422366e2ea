//! An order through a shop: as code, as text, and on a bus.

use railbus::{
    Bus, Event, Failure, Pipeline, Retry, State, Steps, executors::Threads, step, store,
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, ErrorKind::ConnectionRefused},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    order_id: String,
    email: String,
    items: Vec<String>,
    total: f64,
}

#[derive(Serialize, Deserialize)]
struct Payment {
    reference: String,
}

/// Refuses so many charges before it takes one.
#[derive(Clone)]
struct Gateway(Arc<AtomicU32>);

impl Gateway {
    fn down_for(tries: u32) -> Self {
        Self(Arc::new(AtomicU32::new(tries)))
    }

    fn charge(&self, total: f64) -> io::Result<Payment> {
        match self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(io::Error::new(ConnectionRefused, "the gateway is down")),
            Err(_) => Ok(Payment { reference: format!("pay-{total}") }),
        }
    }
}

#[derive(Clone)]
struct Mailer;

impl Mailer {
    async fn send(&self, email: &str, order: &str, reference: &str) -> io::Result<()> {
        println!("  mail to {email}: order {order}, {reference}");
        Ok(())
    }
}

#[step]
fn validate(order: &Order) -> Result<(), Failure> {
    match order.items.is_empty() {
        true => Err(Failure::new("Order has no items")),
        false => Ok(()),
    }
}

#[step(executor = Threads::default(),
       retry = Retry::attempts(3).backoff_factor(Duration::from_millis(1)).on::<io::Error>())]
fn charge(order: &Order, gateway: State<Gateway>) -> io::Result<Payment> {
    gateway.charge(order.total)
}

#[step]
async fn confirm(
    order: &Order,
    payment: &Payment,
    mail: State<Mailer>,
) -> io::Result<&'static str> {
    mail.send(&order.email, &order.order_id, &payment.reference).await?;
    Ok("Confirmation sent")
}

fn order(items: &[&str]) -> Order {
    let items = items.iter().map(|item| (*item).to_owned()).collect();
    Order { order_id: "A-1".into(), email: "ada@example.com".into(), items, total: 9.5 }
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    // As code: `pipe` hands the payment to what `confirm` needs and nothing else leaves.
    for down in [2, 3] {
        let checkout = Pipeline::new("checkout")
            .input::<Order>("order")
            .state(Gateway::down_for(down))
            .state(Mailer)
            .step(validate)
            .step(charge)
            .pipe(confirm)
            .build()?;
        println!("{}", checkout.run(store! { "order" => order(&["a pen"]) }).await);
    }

    // As text: the same graph.
    let steps = Steps::new().add(validate).add(charge).add(confirm);
    let steps = steps.state(Gateway::down_for(0)).state(Mailer);
    let text = |flow: &str| {
        Pipeline::new("checkout").input::<Order>("order").steps(steps.clone()).flow(flow).build()
    };
    let checkout = text("validate -> charge |-> confirm")?;
    println!("{}", checkout.run(store! { "order" => order(&[]) }).await);
    let report = checkout.run(store! { "order" => order(&["a pen"]) }).await;
    println!("{}", report.get::<String>("confirm")?);
    if let Err(error) = text("validate -> chrage |-> confirm") {
        println!("{error}\n  {}", error.advice().unwrap_or_default());
    }

    // On a bus: each order that is placed is one run.
    let bus = Bus::new();
    bus.on("order.placed").group("checkout").run(checkout).await?;
    bus.publish(Event::new("order.placed").payload(order(&["an ink"]))).await?;
    bus.idle().await?;
    bus.close().await
}
