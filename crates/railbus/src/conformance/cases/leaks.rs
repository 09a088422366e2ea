//! Nothing is left behind.

use crate::{
    backend::{Backend, Broadcast, Start},
    bus::Bus,
    conformance::{
        finding::{Broken, Checked, Finding},
        proxy::Proxy,
        stage::{LONG_LEASE, Stage, literal, within},
    },
    event::Event,
    predicate,
};
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// How often it is tried: what somebody else in this process opened meanwhile and keeps is there
/// before the next round, what is left behind grows in each.
const ROUNDS: u32 = 3;

/// How long nothing may go before it is taken that nothing is about to.
const QUIET: u32 = 10;

/// How often it is looked whether all is gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A bus is opened, used and closed many times: afterwards there are as many tasks, threads and
/// open files in this process as before, and no connection.
pub(super) async fn leaks(stage: &Stage) -> Checked<Finding> {
    let proxy = stage.proxy().await?;
    let (topic, group) = (stage.topic("leaks"), stage.group("leaks"));
    // What is made once and kept, such as a pool of threads, is there before it is counted.
    for _ in 0..3 {
        once(stage, proxy.as_ref(), &group, &topic).await?;
    }
    let mut found = Err(Broken::new("it was not looked"));
    for _ in 0..ROUNDS {
        found = round(stage, proxy.as_ref(), &group, &topic).await?;
        if found.is_ok() {
            break;
        }
    }
    let after = found?;
    Ok(Finding::Passed(Some(format!("{} times: {after:?}", stage.counts.reopened))))
}

/// Opens and closes many times; returns what there is then, or what is left behind.
async fn round(
    stage: &Stage,
    proxy: Option<&Proxy>,
    group: &str,
    topic: &str,
) -> Checked<Checked<Counted>> {
    let before = Counted::quiet(proxy).await;
    for n in 0..stage.counts.reopened {
        once(stage, proxy, group, topic)
            .await
            .map_err(|broken| broken.within(&format!("time {}", n + 1)))?;
    }
    let mut after = Counted::now(proxy);
    let back = async {
        while !after.is_within(&before) || after.connections > 0 {
            // Nothing tells when a task or a connection is gone for good.
            tokio::time::sleep(LOOK_EVERY).await;
            after = Counted::now(proxy);
        }
    };
    let waited = within(stage.patience / ROUNDS, "what was opened to be gone", back).await;
    Ok(match waited {
        Ok(()) => Ok(after),
        Err(_) => Err(Broken::firm(format!(
            "opened and closed {} times: before {before:?}, after {after:?}",
            stage.counts.reopened
        ))),
    })
}

async fn once(stage: &Stage, proxy: Option<&Proxy>, group: &str, topic: &str) -> Checked {
    let backend: Arc<dyn Backend> = stage.open_unseen(proxy).await?;
    let bus = Bus::over(backend);
    if stage.capability.broadcast != Broadcast::None {
        bus.on(predicate::topic(&literal(topic))).run(|_: &Event| ()).await?;
    }
    if stage.capability.groups {
        let on = bus.on(predicate::topic(&literal(topic))).group(group).from(Start::Newest);
        on.lease(LONG_LEASE).run(|_: &Event| ()).await?;
    }
    stage.within("a publish", bus.publish(stage.events(topic, 1).remove(0))).await??;
    stage.within("close", bus.close_within(stage.patience)).await??;
    stage.history.goes_on();
    Ok(())
}

/// What may be left behind; what can't be counted here is 0.
#[derive(Debug)]
struct Counted {
    tasks: usize,
    threads: usize,
    files: usize,
    connections: usize,
}

impl Counted {
    fn now(proxy: Option<&Proxy>) -> Self {
        let entries = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            threads: entries("/proc/self/task"),
            files: entries("/proc/self/fd"),
            connections: proxy.map_or(0, Proxy::connections),
        }
    }

    /// Counts once nothing that was there before is about to go.
    async fn quiet(proxy: Option<&Proxy>) -> Self {
        let (mut least, mut still) = (Self::now(proxy), 0);
        while still < QUIET {
            // Nothing tells when a task or a connection is gone for good.
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Self::now(proxy);
            still = if least.is_within(&now) { still + 1 } else { 0 };
            least = Self {
                tasks: least.tasks.min(now.tasks),
                threads: least.threads.min(now.threads),
                files: least.files.min(now.files),
                connections: least.connections.min(now.connections),
            };
        }
        least
    }

    fn is_within(&self, before: &Self) -> bool {
        self.tasks <= before.tasks
            && self.threads <= before.threads
            && self.files <= before.files
            && self.connections <= before.connections
    }
}
