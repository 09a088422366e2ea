//! A server for all rows, and a database of its own for each turn.

use harness::{Failed, Result};
use railbus::Bus;
use railbus_testbed::Postgres;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

/// Starts a server whose Ok survives power loss, unless `RAILBUS_BENCH_FSYNC` is `off`: then what
/// the disk takes is left out, on both sides.
pub(crate) fn server() -> Result<Postgres> {
    let synced = std::env::var("RAILBUS_BENCH_FSYNC").as_deref() != Ok("off");
    let options = Postgres::options().fsync(synced).setting("shared_buffers", "512MB");
    Ok(options.setting("max_wal_size", "8GB").start()?)
}

/// A runtime as programs have it.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Opens a bus on the database that `url` names.
pub(crate) async fn bus(url: &str) -> Result<Bus> {
    Ok(Bus::open(url).await?)
}

/// Connects with the bare client.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Awaits `work` on this runtime, with the clock running.
pub(crate) fn timed(work: impl Future<Output = Result<u64>>) -> Result<harness::Timed> {
    let runtime = tokio::runtime::Handle::current();
    let mut work = Some(work);
    harness::timed(|| {
        let work = work.take().ok_or_else(|| Failed::from("it is timed once"))?;
        tokio::task::block_in_place(|| runtime.block_on(work))
    })
}
