//! An event: an immutable envelope with an id, a time and a payload.

use railbus::{Event, Map, Value, json};

fn main() -> railbus::Result<()> {
    let event = Event::new("pipeline_step").source("DataProcessor.Validation").payload(json!({
        "raw_data": { "rows": 10000, "cols": 15 },
        "memory_usage": "256MB",
        "processing_time": 1.23,
        "status": "success",
    }));

    println!("Event created successfully!");
    println!("Type: {}", event.event_type());
    println!("Source: {}", event.source());
    let payload = event.payload::<Map<String, Value>>()?;
    println!("Payload keys: {:?}", payload.keys().collect::<Vec<_>>());

    println!("\nFull event as dict:\n{}", event.to_json()?);
    Ok(())
}
