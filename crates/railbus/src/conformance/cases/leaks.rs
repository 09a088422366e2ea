//! Nothing is left behind.

use crate::{
    backend::{Backend, Broadcast, Start},
    bus::Bus,
    conformance::{
        finding::{Broken, Checked, Finding},
        proxy::Proxy,
        stage::{LONG_LEASE, Stage, literal},
    },
    event::Event,
    predicate,
};
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

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
    let before = Counted::now(proxy.as_ref());
    for n in 0..stage.counts.reopened {
        once(stage, proxy.as_ref(), &group, &topic)
            .await
            .map_err(|broken| broken.within(&format!("time {}", n + 1)))?;
    }
    let mut after = Counted::now(proxy.as_ref());
    let back = async {
        while !after.is_within(&before) {
            // Nothing tells when a task or a connection is gone for good.
            tokio::time::sleep(LOOK_EVERY).await;
            after = Counted::now(proxy.as_ref());
        }
    };
    let waited = stage.within("what was opened to be gone", back).await;
    waited.map_err(|_| {
        let times = stage.counts.reopened;
        Broken::new(format!("opened and closed {times} times: before {before:?}, after {after:?}"))
    })?;
    Ok(Finding::Passed(Some(format!("{} times: {after:?}", stage.counts.reopened))))
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

    fn is_within(&self, before: &Self) -> bool {
        self.tasks <= before.tasks
            && self.threads <= before.threads
            && self.files <= before.files
            && self.connections == 0
    }
}
