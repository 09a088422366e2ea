//! A handler with state of its own, and a say in which events it takes.

use railbus::{BoxError, Bus, Event, SyncHandler, Value, any, json};
use std::sync::{Mutex, PoisonError};

struct PipelineMonitor {
    name: &'static str,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    step: String,
    steps: usize,
    errors: Vec<String>,
}

impl SyncHandler for PipelineMonitor {
    fn can_handle(&self, event: &Event) -> bool {
        event.source().strip_prefix(self.name).is_some_and(|rest| rest.starts_with('.'))
    }

    fn handle(&self, event: &Event) -> Result<(), BoxError> {
        let Self { name, seen } = self;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event.event_type() {
            "pipeline_start" => {
                println!("[{name}] Pipeline started");
                seen.steps = 0;
            }
            "step_start" => {
                seen.step = event.source().rsplit('.').next().unwrap_or_default().into();
                seen.steps += 1;
                println!("Step {}: {} starting...", seen.steps, seen.step);
            }
            "step_end" => {
                let duration = event.get::<Value>("duration").unwrap_or("unknown".into());
                let status = event.get("status").unwrap_or("unknown");
                println!("Step {}: {} completed ({duration}s, {status})", seen.steps, seen.step);
            }
            "error" => {
                let message = event.get("message").unwrap_or("Unknown error");
                println!("Error in {}: {message}", seen.step);
                seen.errors.push(message.into());
            }
            "pipeline_end" => {
                let total = event.get::<Value>("total_duration").unwrap_or("unknown".into());
                println!("[{name}] Pipeline completed in {total}s");
                println!("Total steps: {}, Errors: {}", seen.steps, seen.errors.len());
            }
            _ => {}
        }
        Ok(())
    }
}

fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    bus.on(any()).run(PipelineMonitor { name: "DataProcessing", seen: Mutex::default() }).now()?;

    println!("Testing PipelineMonitor Handler\n{}", "=".repeat(50));
    for (event_type, step, payload) in [
        ("pipeline_start", "Start", json!({ "timestamp": "2024-01-15T10:00:00" })),
        ("step_start", "LoadData", json!({ "step_index": 1 })),
        ("step_end", "LoadData", json!({ "step_index": 1, "duration": 2.1, "status": "success" })),
        ("step_start", "ValidateData", json!({ "step_index": 2 })),
        ("error", "ValidateData", json!({ "message": "Missing required column 'target'" })),
        (
            "step_end",
            "ValidateData",
            json!({ "step_index": 2, "duration": 0.5, "status": "failed" }),
        ),
        ("step_start", "CleanData", json!({ "step_index": 3 })),
        ("step_end", "CleanData", json!({ "step_index": 3, "duration": 1.8, "status": "success" })),
        ("pipeline_end", "End", json!({ "total_duration": 4.4 })),
    ] {
        let source = format!("DataProcessing.{step}");
        bus.emit(Event::new(event_type).source(source).payload(payload))?;
    }
    Ok(())
}
