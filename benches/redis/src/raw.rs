//! The bare client: what is done with it, and a server to do it on.

use harness::{Failed, Result, Timed};
use railbus::Bus;
use railbus_testbed::Redis;
use redis::{Cmd, Value, aio::MultiplexedConnection, cmd};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::runtime::{Builder, Handle, Runtime};

/// How many publish at once.
pub(crate) const PUBLISHERS: u64 = 64;

/// A server, and a runtime as programs have it.
pub(crate) struct Place {
    pub(crate) redis: Redis,
    pub(crate) runtime: Runtime,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { redis: Redis::start()?, runtime })
    }

    /// Empties the server.
    pub(crate) fn clear(&self) -> Result<()> {
        self.redis.command(&["FLUSHALL"])?;
        Ok(())
    }

    pub(crate) async fn bus(&self, scheme: &str) -> Result<Bus> {
        Ok(Bus::open(self.redis.url(scheme).as_str()).await?)
    }

    pub(crate) fn client(&self) -> Result<redis::Client> {
        Ok(redis::Client::open(self.redis.url("redis"))?)
    }

    pub(crate) async fn raw(&self) -> Result<MultiplexedConnection> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        Ok(self.client()?.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

/// Times what is awaited.
pub(crate) fn timed(work: impl Future<Output = Result<u64>>) -> Result<Timed> {
    let runtime = Handle::current();
    harness::timed(|| tokio::task::block_in_place(|| runtime.block_on(work)))
}

/// Sends so many commands from 64 tasks, each waiting for its answer.
pub(crate) async fn send_all(
    connection: &MultiplexedConnection,
    times: u64,
    command: impl Fn(u64) -> Cmd + Clone + Send + Sync + 'static,
) -> Result<u64> {
    let tasks: Vec<_> = (0..PUBLISHERS)
        .map(|task| {
            let (mut connection, command) = (connection.clone(), command.clone());
            tokio::spawn(async move {
                let mut confirmed = 0;
                for number in (task..times).step_by(PUBLISHERS as usize) {
                    command(number).query_async::<Value>(&mut connection).await?;
                    confirmed += 1;
                }
                Ok::<u64, Failed>(confirmed)
            })
        })
        .collect();
    let mut confirmed = 0;
    for task in tasks {
        confirmed += task.await??;
    }
    Ok(confirmed)
}

pub(crate) fn xadd(body: &[u8]) -> Cmd {
    let mut add = cmd("XADD");
    add.arg("raw").arg("*").arg("b").arg(body);
    add
}

/// Makes the consumer group of the bare client.
pub(crate) async fn group(connection: &mut MultiplexedConnection) -> Result<()> {
    let mut create = cmd("XGROUP");
    create.arg("CREATE").arg("raw").arg("g").arg("0").arg("MKSTREAM");
    Ok(create.query_async(connection).await?)
}

/// Reads, decodes and acknowledges by the hundred until so many have come.
pub(crate) async fn consume(
    mut reading: MultiplexedConnection,
    mut acks: MultiplexedConnection,
    times: u64,
    handle: fn(&[u8]) -> Result<()>,
) -> Result<u64> {
    let mut arrived = 0;
    while arrived < times {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg("g").arg("c").arg("COUNT").arg(128).arg("BLOCK").arg(5000);
        read.arg("STREAMS").arg("raw").arg(">");
        let said: Value = read.query_async(&mut reading).await?;
        let mut ack = cmd("XACK");
        ack.arg("raw").arg("g");
        arrived += each(said, |id, body| {
            ack.arg(id);
            handle(body)
        })?;
        ack.query_async::<Value>(&mut acks).await?;
    }
    Ok(arrived)
}

/// Goes through what a read answers.
pub(crate) fn each(said: Value, mut see: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<u64> {
    let Value::Array(streams) = said else { return Ok(0) };
    let mut seen = 0;
    for stream in streams {
        let Value::Array(mut pair) = stream else { continue };
        let Some(Value::Array(entries)) = pair.pop() else { continue };
        for entry in entries {
            let Value::Array(entry) = entry else { continue };
            let [Value::BulkString(id), Value::Array(fields)] = &*entry else { continue };
            let Some(Value::BulkString(body)) = fields.get(1) else { continue };
            see(id, body)?;
            seen += 1;
        }
    }
    Ok(seen)
}

/// Waits until so many are counted.
pub(crate) async fn until(arrived: &Arc<AtomicU64>, times: u64) -> Result<u64> {
    for _ in 0..60_000 {
        let now = arrived.load(Relaxed);
        if now >= times {
            return Ok(now);
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    Err(format!("{} of {times} came", arrived.load(Relaxed)).into())
}
