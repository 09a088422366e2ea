//! The server that all rows share.

use harness::Result;
use railbus::Bus;
use railbus_testbed::Postgres;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};

/// Returns the server.
pub(crate) fn server() -> Result<&'static Postgres> {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    if let Some(server) = SERVER.get() {
        return Ok(server);
    }
    let started = Postgres::start()?;
    Ok(SERVER.get_or_init(|| started))
}

/// Opens a bus on the server.
pub(crate) async fn bus() -> Result<Bus> {
    Ok(Bus::open(server()?.url("postgres")).await?)
}

/// Returns a runtime on both cores.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
