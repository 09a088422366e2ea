//! Predicates: which events, by source and by payload.

use railbus::{Event, Predicate, has_key, json, key_equals, source_is, source_starts_with};

fn main() {
    let events = [
        Event::new("step_start")
            .source("Pipeline.DataLoad")
            .payload(json!({ "step_index": 0, "type": "input", "size_mb": 150 })),
        Event::new("step_start")
            .source("Pipeline.DataTransform")
            .payload(json!({ "step_index": 1, "type": "processing" })),
        Event::new("step_end")
            .source("Pipeline.DataLoad")
            .payload(json!({ "step_index": 0, "duration": 1.5, "status": "success" })),
        Event::new("step_end")
            .source("Pipeline.DataTransform")
            .payload(json!({ "step_index": 1, "duration": 3.2, "status": "success" })),
        Event::new("error")
            .source("OtherPipeline.Validation")
            .payload(json!({ "error_code": 404, "message": "Data not found" })),
        Event::new("warning")
            .source("Pipeline.DataLoad")
            .payload(json!({ "message": "Large file size", "size_mb": 800 })),
    ];
    let wanted_by =
        |wanted: Predicate| events.iter().filter(|e| wanted.matches(e)).collect::<Vec<_>>();

    println!("Event Predicate Examples\n{}", "=".repeat(50));

    let hits = wanted_by(source_is("Pipeline.DataLoad"));
    println!("Events from 'Pipeline.DataLoad' ({} found):", hits.len());
    for e in hits {
        println!("   • {} - {}", e.event_type(), e.get("message").unwrap_or("N/A"));
    }

    let hits = wanted_by(source_starts_with("Pipeline."));
    println!("\nEvents from 'Pipeline.*' sources ({} found):", hits.len());
    for e in hits {
        println!("   • {} from {}", e.event_type(), e.source());
    }

    let hits = wanted_by(has_key("duration"));
    println!("\nEvents with 'duration' payload ({} found):", hits.len());
    for e in hits {
        println!("   • {}: {}s", e.source(), e.get("duration").unwrap_or(0.0));
    }

    let hits = wanted_by(key_equals("type", "input"));
    println!("\nEvents with type='input' ({} found):", hits.len());
    for e in hits {
        println!("   • {}: {}MB", e.source(), e.get("size_mb").unwrap_or(0));
    }
}
