//! Real servers for tests: Redis, NATS, PostgreSQL, PgBouncer and moto (for SQS), and a network between them
//! and the test that fails as networks do.
//!
//! A server has a free port, a folder of its own below the system's temporary one, and ends with
//! its value: the process is gone and the folder removed, also if the test run is killed with
//! SIGKILL. Nothing here is async; calls block until what they say is so.
//!
//! ```no_run
//! use railbus_testbed::{Fault, Proxy, Redis};
//!
//! let redis = Redis::start()?;
//! let proxy = Proxy::to(redis.address())?;
//! let url = proxy.url_of(&redis.url("redis-streams"));
//! proxy.fault(Fault::BlackHole);
//! redis.kill()?;
//! redis.start_again()?;
//! # Ok::<(), railbus_testbed::Error>(())
//! ```
//!
//! Programs are looked for where an environment variable says, in `PATH`, in the folders where
//! systems keep them, and below `target/servers/`; what is nowhere is installed there, without
//! root, or run by Docker where that is there. What can't be had fails the test, with what to do
//! about it.

mod error;
mod lock;
mod place;
mod user;
mod copy;
mod family;
mod folder;
mod port;
mod programs;
mod certificates;
mod tls;
mod url;
mod server;
mod resp;
mod redis;
mod nats;
mod cluster;
mod postgres;
mod standby;
mod pgbouncer;
mod python;
mod moto;
mod install;
mod proxy;

pub use error::{Error, Result};
pub use install::{Installed, install};
pub use moto::Moto;
pub use nats::{Nats, NatsOptions};
pub use pgbouncer::PgBouncer;
pub use postgres::{Database, Postgres, PostgresOptions};
pub use proxy::{Fault, Proxy};
pub use python::{INTEROP, Python, PythonProcess};
pub use redis::{Redis, RedisOptions};
pub use server::Server;
