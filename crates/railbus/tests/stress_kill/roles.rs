//! The programs under load: this one, started again.

use crate::ledger::Ledger;
use railbus::{bus::Bus, event::Event};
use serde_json::json;
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

const LEASE: Duration = Duration::from_secs(1);

/// Publishers at once in a program, and how long each pauses: bounded, so that ten minutes of load
/// fit into memory.
const PUBLISHERS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(2);

/// Plays the part this process was started for; none if it was started as the test.
pub(crate) async fn play() {
    let variable = |name| std::env::var(name).ok();
    let (Some(role), Some(url)) = (variable("AS_CHILD"), variable("URL")) else { return };
    let ledger = Ledger::of(Path::new(&variable("LEDGER").unwrap()));
    // The test may be killed itself: its end of the pipe goes with it.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    match role.as_str() {
        "publisher" => publish_for_ever(&url, ledger).await,
        _ => handle_for_ever(&url, &ledger).await,
    }
}

/// Waits for a server that is down: all that it may say meanwhile is retryable.
async fn until_healed(what: &str, error: railbus::Error) {
    assert!(error.is_retryable(), "{what}: {error:?}");
    // sleep: nobody tells when it will be up.
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn open(url: &str) -> Bus {
    loop {
        match Bus::open(url).await {
            Ok(bus) => return bus,
            Err(e) => until_healed("open", e).await,
        }
    }
}

/// Publishes for ever: writes down each id before, and again once it is Ok.
async fn publish_for_ever(url: &str, ledger: Ledger) {
    let bus = open(url).await;
    let ledger = Arc::new(ledger);
    // Numbers of processes come again where very many are killed.
    let began = UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let one = |task: u32| {
        let (bus, ledger) = (bus.clone(), Arc::clone(&ledger));
        tokio::spawn(async move {
            let [tried, confirmed, again] = ["tried", "confirmed", "again"].map(|l| ledger.list(l));
            for n in 0_u64.. {
                let id = format!("{}-{began}-{task}-{n}", std::process::id());
                tried.add(&id);
                let payload = json!({ "id": id, "pad": "x".repeat(64) });
                let event = Event::new("load").id(&id).payload(payload);
                while let Err(e) = bus.publish(event.clone()).await {
                    until_healed("publish", e).await;
                    again.add(&id);
                }
                confirmed.add(&id);
                // sleep: this bounds the load.
                tokio::time::sleep(PAUSE).await;
            }
        })
    };
    for task in (0..PUBLISHERS).map(one).collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Handles for ever: writes down each event before it is acknowledged.
async fn handle_for_ever(url: &str, ledger: &Ledger) {
    let bus = open(url).await;
    let handled = Arc::new(ledger.list("handled"));
    loop {
        let handled = Arc::clone(&handled);
        let subscribing = bus
            .on("load")
            .group("workers")
            .named("write-down")
            .lease(LEASE)
            .retry(railbus::retry::Retry::attempts(1000))
            .run(move |event: &Event| {
                let inner: String = event.get("id").unwrap();
                handled.add(&format!("{} {inner}", event.id()));
            });
        match subscribing.await {
            Ok(_) => break,
            Err(e) => until_healed("subscribe", e).await,
        }
    }
    std::future::pending::<()>().await;
}

/// A child that does not outlive the test.
pub(crate) struct Role {
    name: &'static str,
    child: Child,
}

impl Role {
    pub(crate) fn start(name: &'static str, url: &str, ledger: &Ledger) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "role", "--nocapture"])
            .envs([("AS_CHILD", name), ("URL", url)])
            .env("LEDGER", ledger.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { name, child }
    }

    pub(crate) fn kill(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "a {} ended by itself", self.name);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
