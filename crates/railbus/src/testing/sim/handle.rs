//! What the body of a simulation has in hand.

use super::{
    jostle::{Jostled, Mortal},
    process::{Process, Setup, open},
    world::{DRIVER, World},
};
use crate::{
    bus::{Bus, Report},
    error::Result,
    event::IntoEvent,
};
use std::{cell::RefCell, fmt, future::Future, ops::Range, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How soon what could not be published is published again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Within what time a process that died starts again, in milliseconds.
const REVIVED_WITHIN: Range<u64> = 1..5_000;

/// For how long there are faults while all is waited for, in milliseconds.
const FAULTY_FOR: Range<u64> = 1..300_000;

/// One run of a simulation, as its body has it.
///
/// # Examples
/// ```
/// use railbus::{Event, testing::{self, Sim}};
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}};
///
/// testing::Simulation::new().seeds(20).run(async |sim: Sim| -> railbus::Result<()> {
///     let handled = Arc::new(AtomicU64::new(0));
///     let count = handled.clone();
///     sim.process("counter", async move |bus| {
///         let count = count.clone();
///         let counting = move |_: &Event| { count.fetch_add(1, Relaxed); };
///         bus.on("tick").group("counting").run(counting).await?;
///         Ok(())
///     })
///     .await?;
///     let ticks = sim.pick(1..5);
///     for _ in 0..ticks {
///         sim.publish(Event::new("tick")).await?;
///     }
///     assert_eq!(sim.bus().capability().name, "memory");
///     let task = sim.spawn(async { 7 });
///     assert_eq!(task.await.unwrap(), 7);
///     sim.idle().await?;
///     sim.note(format!("seed {}: {ticks}", sim.seed()));
///     assert!(handled.load(Relaxed) >= ticks, "at least once, always");
///     Ok(())
/// });
/// ```
#[derive(Clone)]
pub struct Sim {
    pub(super) world: Arc<World>,
    bus: Bus,
    processes: Rc<RefCell<Vec<Rc<Process>>>>,
}

impl Sim {
    pub(super) fn new(world: &Arc<World>) -> Self {
        let bus = open(world, DRIVER, &CancellationToken::new());
        Self { world: Arc::clone(world), bus, processes: Rc::default() }
    }

    /// Starts a process: `setup` subscribes its handlers on a bus of its own, over a store that all
    /// have in common.
    ///
    /// It may die at any await of its handlers. They are dropped then, none of its calls is
    /// answered any more, and some time later `setup` is called again. So what `setup` makes is lost
    /// with a process, and what it captures stands for what is kept elsewhere.
    ///
    /// # Errors
    /// Returns what `setup` returned.
    pub async fn process(
        &self,
        name: impl Into<String>,
        setup: impl AsyncFn(Bus) -> Result<()> + 'static,
    ) -> Result<()> {
        let setup = Rc::new(setup);
        let setup: Setup = Rc::new(move |bus| {
            let setup = Rc::clone(&setup);
            Box::pin(async move { setup(bus).await })
        });
        let process = Rc::new(Process::new(name.into(), setup));
        process.revive(&self.world).await?;
        self.processes.borrow_mut().push(process);
        Ok(())
    }

    /// Returns a bus over the same store, of a process that does not die.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Publishes an event until that is confirmed, as a careful program does: under one id, however
    /// often.
    ///
    /// # Errors
    /// As [`Bus::publish`], but for what may be mended by another try.
    pub async fn publish(&self, event: impl IntoEvent) -> Result<Report> {
        let held = event.into_event();
        let event = std::borrow::Borrow::borrow(&held);
        loop {
            match self.bus.publish(event).await {
                Err(error) if error.is_retryable() => sleep(AGAIN_AFTER).await,
                result => return result,
            }
        }
    }

    /// Returns a number of the range, as the seed has it.
    #[must_use]
    pub fn pick(&self, range: Range<u64>) -> u64 {
        self.world.luck().pick(range)
    }

    /// Returns the seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.world.seed
    }

    /// Spawns a task whose turns the seed may pass to others. One that is spawned otherwise runs in
    /// the order of the runtime.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        tokio::spawn(self.jostled(work))
    }

    /// Adds a line to the history, which is shown if the simulation fails.
    pub fn note(&self, what: impl AsRef<str>) {
        self.world.note("test", what.as_ref());
    }

    /// Waits until all that was published is through: first with faults, for as long as the seed
    /// says, then without them, and with all processes that died there again. Then nothing is lost,
    /// and nothing settled twice.
    ///
    /// # Errors
    /// Returns what a process that starts again returned.
    ///
    /// # Panics
    /// Panics if something was lost, or settled twice.
    pub async fn idle(&self) -> Result<()> {
        let most = self.pick(FAULTY_FOR);
        // Whether it is through by then, or not: what counts comes next.
        let _ = timeout(Duration::from_millis(most), self.world.through()).await;
        self.world.luck().calm = true;
        self.world.note("test", "no more faults");
        let processes = self.processes.borrow().clone();
        for process in &processes {
            process.revive(&self.world).await?;
        }
        for process in &processes {
            process.idle().await?;
        }
        self.bus.idle().await?;
        let broken = self.world.broken();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        Ok(())
    }

    pub(super) fn jostled<F: Future>(&self, work: F) -> Jostled<F> {
        let (world, name) = (Arc::clone(&self.world), String::new());
        Jostled::new(Mortal { world, name, gone: CancellationToken::new() }, work)
    }

    /// Starts processes again that died, until there are no more faults; never returns, but with an
    /// error.
    pub(super) async fn revive(&self) -> Result<()> {
        loop {
            let wait = self.world.luck().pick(REVIVED_WITHIN);
            sleep(Duration::from_millis(wait)).await;
            if self.world.luck().calm {
                return std::future::pending().await;
            }
            let processes = self.processes.borrow().clone();
            for process in processes {
                process.revive(&self.world).await?;
            }
        }
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sim(seed {}: {:?})", self.seed(), self.processes.borrow())
    }
}
