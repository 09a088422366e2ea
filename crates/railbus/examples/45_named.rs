//! Producers and consumers by name, each on a backend of its own, from one configuration. The environment
//! says the same: `RAILBUS_CONSUMERS__JOBS__URL`, and `Bus::from_env()`.

use railbus::{Bus, Event, State, json};
use std::{
    env::temp_dir,
    fs,
    sync::{Arc, Mutex},
};

type Lines = Arc<Mutex<Vec<String>>>;

async fn program(folder: &str) -> railbus::Result<()> {
    let bus = Bus::from_config(&json!({
        "producers": { "jobs": format!("sqlite:{folder}/jobs.db") },
        "consumers": {
            "jobs": { "url": format!("sqlite:{folder}/jobs.db"), "group": "workers", "max_workers": 1 },
        },
    }))
    .await?;
    let lines = Lines::default();
    let jobs = bus.consumer("jobs")?;
    let handlers = jobs.bus().clone().state(Arc::clone(&lines));
    let work = async |job: Event, lines: State<Lines>| {
        lines.lock().unwrap_or_else(|e| e.into_inner()).push(format!("{} is done", job.id()));
    };
    jobs.on("job.added").run(work).await?;
    bus.start().await?;
    for id in ["one", "two"] {
        bus.producer("jobs")?.publish(Event::new("job.added").id(id)).await?;
    }
    handlers.idle().await?;
    for line in &*lines.lock().unwrap_or_else(|e| e.into_inner()) {
        println!("{line}");
    }
    if let Err(error) = bus.producer("job") {
        println!("{error}; {}", error.advice().unwrap_or_default());
    }
    bus.close().await
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let folder = temp_dir().join(format!("railbus-named-{}", std::process::id()));
    let _ = fs::create_dir_all(&folder);
    let ended = program(&folder.display().to_string()).await;
    let _ = fs::remove_dir_all(&folder);
    ended
}
