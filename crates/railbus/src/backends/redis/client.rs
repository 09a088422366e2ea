//! How a connection is made, and what the server must be able to do.

use super::{
    fault::fault,
    settings::{Server, Tls},
};
use crate::error::{Error, ErrorKind, Result};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, aio::MultiplexedConnection,
};
use std::{sync::Arc, time::Duration};

/// The oldest server that knows all commands that are used.
const OLDEST: (u32, u32) = (6, 2);

/// Hears what the server says without being asked.
pub(in crate::backends) type Hears = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// Makes a client of a server; nothing is connected yet.
///
/// # Errors
/// Returns a config error if a file of the TLS settings can't be read or holds something else.
pub(in crate::backends) fn client(server: &Server) -> Result<Client> {
    let mut identity =
        RedisConnectionInfo::default().set_db(server.database.into()).set_skip_set_lib_name();
    // What is heard without being asked comes in the third version of the protocol only.
    identity = identity.set_protocol(ProtocolVersion::RESP3);
    if let Some(user) = &server.user {
        identity = identity.set_username(user);
    }
    if let Some(password) = &server.password {
        identity = identity.set_password(password);
    }
    let (host, port) = (server.host.clone(), server.port);
    let address = match &server.tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    let failed = |e| fault("open redis", server, e);
    let about = address.into_connection_info().map_err(failed)?.set_redis_settings(identity);
    match &server.tls {
        None => Client::open(about).map_err(failed),
        Some(tls) => encrypted(tls, about).and_then(|made| made.map_err(failed)),
    }
}

fn encrypted(tls: &Tls, about: redis::ConnectionInfo) -> Result<redis::RedisResult<Client>> {
    // A program may have chosen another already, which does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Client::build_with_tls(about, tls.certificates()?))
}

/// Connects; an answer may take as long as `timeout` says.
///
/// # Errors
/// Returns what the server said, or why there was none.
pub(in crate::backends) async fn connect(
    client: &Client,
    server: &Server,
    timeout: Duration,
    hears: Option<&Hears>,
) -> Result<MultiplexedConnection> {
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(server.connect_timeout))
        .set_response_timeout(Some(timeout))
        .set_pipeline_buffer_size(256);
    if let Some(hears) = hears {
        let hears = Arc::clone(hears);
        config = config.set_push_sender(move |info: PushInfo| -> std::result::Result<(), ()> {
            hears(info);
            Ok(())
        });
    }
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    // The client's own limit ends where the server takes the connection and then says nothing.
    let limit = server.connect_timeout;
    match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(e)) if !e.is_timeout() => Err(fault("connect", server, e)),
        _ => Err(Error::new(ErrorKind::Unavailable, "connect", "the server does not answer")
            .with("server", server)
            .with("waited", format!("{limit:?}"))
            .hint("look whether it hangs, and whether the port takes TLS or not")),
    }
}

/// Asks a server for its version, and refuses one that is too old.
///
/// # Errors
/// Returns a version error for a server that is too old, else what the server said.
pub(in crate::backends) async fn version(
    connection: &mut MultiplexedConnection,
    server: &Server,
) -> Result<String> {
    let said: redis::RedisResult<String> =
        redis::cmd("INFO").arg("server").query_async(connection).await;
    let said = match said {
        Ok(said) => said,
        // Who may not ask, is taken at the word of what follows.
        Err(e) if e.code() == Some("NOPERM") => return Ok("unknown".into()),
        Err(e) => return Err(fault("connect", server, e)),
    };
    let line = said.lines().find_map(|line| line.strip_prefix("redis_version:"));
    let version = line.unwrap_or("unknown").trim().to_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if line.is_some() && found < OLDEST {
        return Err(Error::new(ErrorKind::Version, "connect", "the server is too old")
            .with("server", server)
            .with("version", &version)
            .hint("Redis 6.2 or later is needed"));
    }
    Ok(version)
}
