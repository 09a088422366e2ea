//! The end of a lease under loom: its settlement, its renewal and the deadline of a drain, in every
//! order of their steps.

use super::leases::Leases;
use crate::{
    backend::{Backend, Leased, Receipt, Settle, Source, Start, Subscribe, Verdict},
    backends::memory::Memory,
    error::{ErrorKind, Result},
    event::Event,
    predicate::Interest,
};
use loom::{future::block_on, thread};
use std::{sync::Arc, time::Duration};

/// A group with one event, which its member has leased and holds.
struct Scene {
    memory: Memory,
    source: Arc<dyn Source>,
    leases: Leases,
    leased: Leased,
}

impl Scene {
    fn new() -> Self {
        let memory = Memory::default();
        let request = Subscribe {
            group: Some("g".into()),
            interest: Interest::all(),
            start: Start::default(),
            lease: Duration::from_secs(30),
            order: Default::default(),
        };
        let source = block_on(memory.subscribe(request)).unwrap();
        let event = [Event::new("a").payload(0).into()];
        block_on(memory.publish(&event)).remove(0).unwrap();
        let leased = block_on(source.fetch(1)).unwrap().remove(0);
        Self { memory, source, leases: Leases::default(), leased }
    }

    /// How many events are not settled, and how many of them are leased.
    fn left(&self) -> (u64, u64) {
        let groups = block_on(self.memory.keeper().unwrap().groups()).unwrap();
        (groups[0].lag, groups[0].leased)
    }
}

fn settle(source: &dyn Source, receipt: Receipt, verdict: Verdict) -> Result<()> {
    block_on(source.settle(&[Settle::new(receipt, verdict)])).remove(0)
}

fn is_stale(result: &Result<()>) -> bool {
    result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Stale)
}

#[test]
fn a_renewal_never_revives_what_was_settled() {
    loom::model(|| {
        let scene = Scene::new();
        let held = scene.leases.hold([scene.leased.receipt.clone()]);
        let (leases, source) = (scene.leases.clone(), Arc::clone(&scene.source));
        let renewing = thread::spawn(move || {
            for (_, receipt) in leases.due(Duration::ZERO) {
                let renewed = settle(&*source, receipt.clone(), Verdict::Extend { tries: 0 });
                assert!(renewed.is_ok() || is_stale(&renewed));
                if renewed.is_err() {
                    let gone = !leases.all().contains(&receipt);
                    assert!(gone, "a renewal was refused while the lease was still held");
                }
            }
        });
        // As a delivery ends: no renewal begins any more, then the verdict.
        let receipt = scene.leased.receipt.clone();
        drop(held);
        settle(&*scene.source, receipt, Verdict::Ack).unwrap();
        renewing.join().unwrap();
        assert_eq!(scene.left(), (0, 0));
        assert!(scene.leases.all().is_empty());
    });
}

#[test]
fn at_the_deadline_an_event_is_settled_or_given_back_but_not_both() {
    loom::model(|| {
        let scene = Scene::new();
        let held = scene.leases.hold([scene.leased.receipt.clone()]);
        let (leases, source) = (scene.leases.clone(), Arc::clone(&scene.source));
        let giving_back = thread::spawn(move || {
            let release = |r| settle(&*source, r, Verdict::Release { delay: Duration::ZERO });
            let released: Vec<_> = leases.all().into_iter().map(release).collect();
            released.into_iter().any(|released| released.is_ok())
        });
        let receipt = scene.leased.receipt.clone();
        drop(held);
        let acked = settle(&*scene.source, receipt, Verdict::Ack);
        let given_back = giving_back.join().unwrap();
        assert!(acked.is_ok() || is_stale(&acked));
        assert!(acked.is_ok() != given_back, "settled by one, exactly");
        assert_eq!(scene.left(), (u64::from(given_back), 0));
    });
}
