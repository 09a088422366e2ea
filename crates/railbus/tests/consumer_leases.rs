//! Leases and settlements that a store can't take for a while: nobody else suffers from it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use async_trait::async_trait;
use railbus::{
    Bus, Error, ErrorKind, Event, Result,
    backend::{
        Backend, Capability, Keeper, Leased, Outgoing, Receipt, Settle, Source, Subscribe, Verdict,
    },
    backends::memory::Memory,
    predicate::Interest,
};
use std::{
    collections::HashSet,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

/// Awaits what must come; a test that waits in vain fails instead of hanging.
async fn within<T>(awaited: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), awaited).await.expect("it never came")
}

fn event(id: &str) -> Event {
    Event::new("a").id(id).payload(0)
}

/// A memory whose source is odd.
#[derive(Debug)]
struct Odd(Memory, How);

#[derive(Clone, Debug)]
enum How {
    /// Renews leases, and says so many times that it could not; counts how often it is asked.
    RenewsInSecret(u32, watch::Sender<u32>),
    /// Can't settle the event "bad", ever.
    IsBusyWith(Arc<Mutex<HashSet<Receipt>>>),
}

struct OddSource(Arc<dyn Source>, How);

#[async_trait]
impl Backend for Odd {
    fn capability(&self) -> &Capability {
        self.0.capability()
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        self.0.publish(batch).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(OddSource(self.0.subscribe(request).await?, self.1.clone())))
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        self.0.settled(groups).await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.0.close(deadline).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.0.keeper()
    }
}

#[async_trait]
impl Source for OddSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let leased = self.0.fetch(max).await?;
        if let How::IsBusyWith(bad) = &self.1 {
            let is_bad = |l: &&Leased| l.event.as_ref().is_ok_and(|e| e.id() == "bad");
            bad.lock().unwrap().extend(leased.iter().filter(is_bad).map(|l| l.receipt.clone()));
        }
        Ok(leased)
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let busy = || Err(Error::new(ErrorKind::Unavailable, "settle", "not now"));
        match &self.1 {
            How::RenewsInSecret(times, asked) => {
                let settled = self.0.settle(batch).await;
                let each = batch.iter().zip(settled);
                each.map(|(settle, settled)| {
                    if !matches!(settle.verdict, Verdict::Extend { .. }) {
                        return settled;
                    }
                    asked.send_modify(|asked| *asked += 1);
                    if *asked.borrow() <= *times { busy() } else { settled }
                })
                .collect()
            }
            How::IsBusyWith(bad) => {
                let is_bad = |settle: &Settle| bad.lock().unwrap().contains(&settle.receipt);
                let mut results = Vec::new();
                for settle in batch {
                    results.push(match is_bad(settle) {
                        true => busy(),
                        false => self.0.settle(std::slice::from_ref(settle)).await.remove(0),
                    });
                }
                results
            }
        }
    }

    fn stop(&self) {
        self.0.stop();
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[tokio::test]
async fn a_lease_whose_renewals_fail_for_now_is_renewed_all_the_same() {
    let asked = watch::Sender::new(0);
    let mut asks = asked.subscribe();
    let odd = Odd(Memory::default(), How::RenewsInSecret(8, asked));
    let bus = Bus::over(Arc::new(odd));
    let (takes, mut taken) = mpsc::unbounded_channel();
    let opens = Arc::new(Notify::new());
    let open = Arc::clone(&opens);
    let handler = async move |event: Event| {
        let _ = takes.send(event.id().to_owned());
        open.notified().await;
    };
    bus.on("a").group("g").lease(Duration::from_millis(300)).run(handler).await.unwrap();
    bus.publish(event("good")).await.unwrap();
    // Many more times than it is tried at once, and longer than the lease.
    within(asks.wait_for(|asked| *asked > 10)).await.unwrap();
    opens.notify_waiters();
    within(bus.idle()).await.unwrap();
    assert_eq!(taken.recv().await.as_deref(), Some("good"));
    assert!(taken.try_recv().is_err(), "it came again although its lease was kept");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_settled_now_holds_up_nothing_beside_it() {
    let memory = Memory::default();
    let bus = Bus::over(Arc::new(Odd(memory.connect(), How::IsBusyWith(Arc::default()))));
    let (takes, mut taken) = mpsc::unbounded_channel();
    let handler = move |event: &Event| drop(takes.send(event.id().to_owned()));
    bus.on("a").group("g").lease(Duration::from_secs(3600)).run(handler).await.unwrap();
    let began = Instant::now();
    for id in ["bad", "good"] {
        bus.publish(event(id)).await.unwrap();
        assert_eq!(taken.recv().await.as_deref(), Some(id));
        // sleep: on a paused clock, so that all that can go on has gone on.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let lag = || async { memory.keeper().unwrap().groups().await.unwrap().remove(0).lag };
    assert_eq!(lag().await, 1, "the good one is settled");
    assert!(began.elapsed() < Duration::from_millis(50), "before the bad one is tried again");
}
