//! The same program everywhere: `RAILBUS_URL` says where, in memory unless it is set.

use railbus::{BoxError, Bus, Event, Payload, State, Type, Value, json, shutdown, topic};
use std::{
    process::{Command, id},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// What the handlers say.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn say(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

async fn on_event(event: Event, payload: Payload<Value>, lines: State<Lines>) {
    lines.say(format!("Received {} on {}", event.event_type(), event.topic()));
    lines.say(format!("Payload: {payload}"));
}

async fn quick_start(bus: &Bus) -> railbus::Result<()> {
    let subscription = bus.on(topic("my-topic")).run(on_event).await?;
    let hello = json!({ "message": "Hello, World!" });
    bus.publish(Event::new(Type::CREATED).topic("my-topic").payload(hello)).await?;
    bus.idle().await?; // in memory publish has delivered it; elsewhere it is on its way
    subscription.cancel();
    Ok(())
}

async fn logger(event: Event, payload: Payload<Value>, lines: State<Lines>) {
    lines.say(format!("LOG: {} - {payload}", event.event_type()));
}

async fn metrics(event: Event, lines: State<Lines>) {
    lines.say(format!("METRICS: {}", event.topic()));
}

async fn notifier(lines: State<Lines>) {
    lines.say("NOTIFY".into());
}

async fn several_subscribers(bus: &Bus) -> railbus::Result<()> {
    bus.on(topic("registry:bots")).run(logger).await?;
    bus.on(topic("registry:bots")).run(metrics).await?;
    bus.on(topic("registry:*")).run(notifier).await?;
    let bot = json!({ "bot_id": "b1" });
    bus.publish(Event::new(Type::UPDATED).topic("registry:bots").payload(bot)).await?;
    bus.idle().await
}

async fn process(event: &Event) -> Result<(), std::io::Error> {
    Err(std::io::Error::other(format!("{} is broken", event.event_type())))
}

async fn safe_handler(event: Event, bus: Bus) -> railbus::Result<()> {
    if let Err(error) = process(&event).await {
        let payload = json!({ "original_event_id": event.id(), "error": error.to_string() });
        bus.publish(Event::new(Type::ERROR).topic("errors").payload(payload)).await?;
    }
    Ok(())
}

async fn errors_in_handlers(bus: &Bus) -> railbus::Result<()> {
    let told = |event: &Event| event.get::<String>("error").unwrap_or_default();
    let by_hand = move |event: Event, lines: State<Lines>| {
        lines.say(format!("errors: {}", told(&event)));
    };
    let by_the_bus = move |event: Event, lines: State<Lines>| {
        lines.say(format!("handler.error: {}", told(&event)));
    };
    bus.on(topic("errors")).run(by_hand).await?;
    bus.on(Type::HANDLER_ERROR).run(by_the_bus).await?;
    bus.on("order.placed").run(safe_handler).await?;
    // The short way: return the error. The bus counts it, logs it and tells of it.
    bus.on("order.sent").run(async |event: Event| process(&event).await).await?;
    bus.publish(Event::new("order.placed")).await?;
    bus.idle().await?;
    bus.publish(Event::new("order.sent")).await?;
    bus.idle().await
}

async fn graceful_shutdown(bus: &Bus, lines: &Lines) -> railbus::Result<()> {
    let mut signals = shutdown::Signals::listen()?;
    let (stops, stopped) = watch::channel(false);
    let in_flight = async move |lines: State<Lines>| {
        let mut stopped = stopped.clone();
        lines.say("began".into());
        // Somebody stops the program in the middle of it.
        Command::new("kill").arg(id().to_string()).status()?;
        stopped.wait_for(|stopped| *stopped).await?;
        lines.say("finished".into());
        Ok::<(), BoxError>(())
    };
    bus.on("job").run(in_flight).await?;
    let publisher = bus.clone();
    tokio::spawn(async move { publisher.publish(Event::new("job")).await });
    lines.say(format!("stopped by {}", signals.next().await));
    stops.send_replace(true);
    bus.close().await?; // waits for the handler
    if let Err(refused) = bus.publish(Event::new("job")).await {
        lines.say(refused.to_string());
    }
    Ok(())
}

/// Runs the program on the backend that a URL names; returns what its handlers said.
pub(crate) async fn program(url: &str) -> railbus::Result<Vec<String>> {
    let lines = Lines::default();
    let bus = Bus::open(url).await?.state(lines.clone());
    quick_start(&bus).await?;
    several_subscribers(&bus).await?;
    errors_in_handlers(&bus).await?;
    graceful_shutdown(&bus, &lines).await?;
    Ok(lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let url = std::env::var("RAILBUS_URL").unwrap_or_else(|_| "memory:".into());
    for line in program(&url).await? {
        println!("{line}");
    }
    Ok(())
}
