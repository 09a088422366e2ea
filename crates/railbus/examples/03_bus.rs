//! The bus without a runtime: subscriptions that open at once, and events that are emitted.

use railbus::{Bus, Event, any, json, source_starts_with};

fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    println!("EventBus Subscription Patterns\n{}", "=".repeat(50));

    let global = bus
        .on(any())
        .run(|e: &Event| println!("  [GLOBAL] {} from {}", e.event_type(), e.source()))
        .now()?;
    bus.on("user_action")
        .run(|e: &Event| {
            println!("  [USER_HANDLER] Action: {}", e.get("action").unwrap_or("unknown"));
        })
        .now()?;
    bus.on("error")
        .run(|e: &Event| {
            println!("  [ERROR_HANDLER] {}", e.get("message").unwrap_or("No error message"));
        })
        .now()?;
    bus.on(source_starts_with("DataPipeline."))
        .run(|e: &Event| println!("  [PIPELINE_MONITOR] {} -> {}", e.source(), e.event_type()))
        .now()?;

    println!("\nTesting Event Emission:\n{}", "-".repeat(30));
    for event in [
        Event::new("user_action")
            .source("WebInterface")
            .payload(json!({ "action": "login", "user_id": 123 })),
        Event::new("error")
            .source("DatabaseConnection")
            .payload(json!({ "message": "Connection timeout" })),
        Event::new("step_start")
            .source("DataPipeline.LoadData")
            .payload(json!({ "step": "data_loading" })),
        Event::new("notification")
            .source("EmailService")
            .payload(json!({ "recipient": "admin@example.com" })),
    ] {
        println!("\nEmitting: {} from {}", event.event_type(), event.source());
        bus.emit(event)?;
    }

    println!("\nSubscription Management:\n{}", "-".repeat(30));
    println!("Unsubscribing global logger...");
    global.cancel(); // or bus.unsubscribe(global.id()) -> bool

    println!("\nEmitting test event after unsubscription:");
    let logout = json!({ "action": "logout", "user_id": 456 });
    bus.emit(Event::new("user_action").source("MobileApp").payload(logout))?;
    Ok(())
}
