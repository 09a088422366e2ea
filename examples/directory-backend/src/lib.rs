//! A backend of one's own, outside of Railbus: a bus in a directory of files.
//!
//! Every event is a file, a group is a folder, and a lease is a file that is renamed. Several
//! processes of one machine may share the directory, and any of them may be killed at any time. It
//! is made to be read: a backend of your own needs what is here, and passes the same suite
//! (`tests/conformance.rs`).
//!
//! ```
//! use railbus::{Bus, Event};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! # let place = folder.path().display();
//! railbus_example_directory::register()?;
//! let bus = Bus::open(&*format!("directory:{place}")).await?;
//! bus.on("order.placed").group("billing").run(|event: &Event| println!("{event:?}")).await?;
//! bus.publish(Event::new("order.placed").payload(7)).await?;
//! bus.idle().await?;
//! bus.close().await?;
//! # Ok::<(), railbus::Error>(()) }).unwrap();
//! ```
//!
//! What it is not: it syncs nothing to the disk, so that a crash of the machine may lose events;
//! nothing is ever deleted; and its leases are on the machine's wall clock.

mod files;
mod log;
mod name;
mod group;
mod letters;
mod source;
mod backend;

pub use backend::Directory;
pub use log::append_raw;

use railbus::{
    Options, Result,
    backend::{
        Backend, Batch, Broadcast, Capability, Fencing, Ordering, Patterns, Release, Replay,
    },
    backends::{self, Row, checkup::Checkup},
};
use std::{sync::Arc, time::Duration};

/// What a directory guarantees: stated once, and shown by the suite.
pub const CAPABILITY: Capability = {
    let mut directory = Capability::inline("directory");
    directory.broadcast = Broadcast::Live;
    directory.groups = true;
    directory.ordering = Ordering::Total;
    directory.counts_attempts = true;
    directory.fencing = Fencing::Checked;
    directory.lease_min = Some(Duration::from_millis(100));
    directory.extends = true;
    directory.delay_max = Some(Duration::from_secs(365 * 24 * 60 * 60));
    directory.patterns = Patterns::Client;
    directory.replay = Replay::Time;
    directory.dead_letters = true;
    directory.keeps_finished = true;
    directory.keeps_history = true;
    directory.release = Release::Free;
    directory.batch = Batch::BestEffort;
    directory.durable = true;
    directory.payload_max = 16 << 20;
    directory
};

/// The row beside those of Railbus's own table.
static ROW: Row = Row {
    scheme: "directory",
    example: "directory:PATH",
    capability: &CAPABILITY,
    settings: &[],
    check: |options| options.check(&[]),
    look: |_| Checkup::default(),
    open: |options| Box::pin(open(options)),
};

/// Lets URLs such as `directory:/var/lib/orders` name it, in this process.
///
/// # Errors
/// Returns a config error if another backend has its scheme.
pub fn register() -> Result<()> {
    backends::register(&ROW)
}

async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    options.check(&[])?;
    Ok(Arc::new(Directory::open(options.address()).await?))
}
