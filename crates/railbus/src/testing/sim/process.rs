//! Processes of a simulation, which die and start again.

use super::{
    fate::ByLuck,
    jostle::{JostledHandler, Mortal},
    world::World,
};
use crate::{
    backend::Backend,
    bus::{Bus, Whose},
    error::Result,
    testing::fate::Fated,
};
use futures_util::future::LocalBoxFuture;
use std::{fmt, rc::Rc, sync::Arc, time::Duration};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// What a process does when it starts.
pub(super) type Setup = Rc<dyn Fn(Bus) -> LocalBoxFuture<'static, Result<()>>>;

pub(super) struct Process {
    pub(super) name: String,
    setup: Setup,
    running: Mutex<Option<Running>>,
}

struct Running {
    bus: Bus,
    gone: CancellationToken,
    connection: Arc<dyn Backend>,
}

/// Opens a bus for a process that is there until it is gone.
pub(super) fn open(world: &Arc<World>, name: &str, gone: &CancellationToken) -> Bus {
    let fate = Arc::new(ByLuck::new(world, name, gone));
    Bus::over(Arc::new(Fated { inner: Arc::new(world.memory.connect()), fate }))
}

impl Process {
    pub(super) fn new(name: String, setup: Setup) -> Self {
        Self { name, setup, running: Mutex::default() }
    }

    /// Starts it if it is not there.
    pub(super) async fn revive(&self, world: &Arc<World>) -> Result<()> {
        let mut running = self.running.lock().await;
        if running.as_ref().is_some_and(|running| !running.gone.is_cancelled()) {
            return Ok(());
        }
        if let Some(dead) = running.take() {
            // As when a connection ends with its process.
            dead.connection.close(Duration::ZERO).await?;
            world.note(&self.name, "starts again");
        }
        let gone = CancellationToken::new();
        let connection: Arc<dyn Backend> = Arc::new(world.memory.connect());
        let fate = Arc::new(ByLuck::new(world, &self.name, &gone));
        let bus = Bus::over(Arc::new(Fated { inner: Arc::clone(&connection), fate }));
        let mortal =
            Mortal { world: Arc::clone(world), name: self.name.clone(), gone: gone.clone() };
        bus.surround(Arc::new(move |_: Whose, handler| {
            Box::new(JostledHandler { mortal: mortal.clone(), handler })
        }));
        (self.setup)(bus.clone()).await?;
        *running = Some(Running { bus, gone, connection });
        Ok(())
    }

    /// Waits until all that it has to do is done.
    pub(super) async fn idle(&self) -> Result<()> {
        let bus = self.running.lock().await.as_ref().map(|running| running.bus.clone());
        match bus {
            Some(bus) => bus.idle().await,
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.name)
    }
}
