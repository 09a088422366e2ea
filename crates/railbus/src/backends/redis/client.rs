//! How a connection is made, and what the server must be able to do.

use super::{
    aside::{Aside, Shelf},
    fault::fault,
    settings::{Server, Tls},
};
use crate::error::{Error, ErrorKind, Result};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisResult, aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

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
    // Requests are written whole: none waits until the one before has been confirmed.
    let tcp = TcpSettings::default().set_nodelay(true);
    let about = address.into_connection_info().map_err(failed)?;
    let about = about.set_redis_settings(identity).set_tcp_settings(tcp);
    match &server.tls {
        None => Client::open(about).map_err(failed),
        Some(tls) => encrypted(tls, about).and_then(|made| made.map_err(failed)),
    }
}

fn encrypted(tls: &Tls, about: redis::ConnectionInfo) -> Result<RedisResult<Client>> {
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
    let config = config(server, timeout, hears);
    within(server, client.get_multiplexed_async_connection_with_config(&config)).await
}

/// Connects, as [`connect`], without encryption; answers that bring entries are put on the shelf. The
/// connection ends with the handle.
///
/// # Errors
/// Returns what the server said, or why there was none.
pub(in crate::backends) async fn connect_aside(
    client: &Client,
    server: &Server,
    timeout: Duration,
    hears: Option<&Hears>,
    shelf: &Arc<Shelf>,
) -> Result<(MultiplexedConnection, AbortOnDropHandle<()>)> {
    let config = config(server, timeout, hears);
    let about = client.get_connection_info().redis_settings();
    let connecting = async {
        let socket = TcpStream::connect((&*server.host, server.port)).await?;
        socket.set_nodelay(true)?;
        let aside = Aside::new(socket, Arc::clone(shelf));
        MultiplexedConnection::new_with_config(about, aside, config).await
    };
    let (connection, driver) = within(server, connecting).await?;
    Ok((connection, AbortOnDropHandle::new(tokio::spawn(driver))))
}

fn config(server: &Server, timeout: Duration, hears: Option<&Hears>) -> AsyncConnectionConfig {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(server.connect_timeout))
        .set_response_timeout(Some(timeout))
        .set_pipeline_buffer_size(256);
    let Some(hears) = hears.map(Arc::clone) else { return config };
    config.set_push_sender(move |info: PushInfo| -> std::result::Result<(), ()> {
        hears(info);
        Ok(())
    })
}

/// Awaits a connection for as long as the settings say: the client's own limit ends where the server
/// takes the connection and then says nothing.
async fn within<T>(server: &Server, connecting: impl Future<Output = RedisResult<T>>) -> Result<T> {
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
    let said: RedisResult<String> = redis::cmd("INFO").arg("server").query_async(connection).await;
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
