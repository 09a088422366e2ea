//! The server: connections, each of which costs little and waits for nobody for ever.

use super::{answer::Answer, door::Door, settings::Settings, tls};
use crate::error::{Error, ErrorKind, Result};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How many headers a request may have, and how large its head may be; more is answered 431.
const HEADERS_MAX: usize = 64;
const HEAD_MAX: usize = 32 * 1024;

/// How long is waited after the system could not accept a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that listens; dropped, it lets go of all.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    // Accepts nothing any more, and ends connections behind the answers that are due.
    stop: CancellationToken,
    // Ends them at once.
    end: CancellationToken,
    connections: TaskTracker,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.end.cancel();
    }
}

impl Server {
    /// Listens, and answers from here on.
    pub(super) async fn start(settings: &Settings, port: u16, door: &Arc<Door>) -> Result<Self> {
        let tls = settings.tls.as_ref().map(|(cert, key)| tls::acceptor(cert, key)).transpose()?;
        let place = (settings.host.as_str(), port);
        let unheard = |error: io::Error| {
            let why = format!("can't listen on {}:{port}: {error}", settings.host);
            let (kind, hint) = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    (ErrorKind::Unavailable, "another program listens there: choose another port")
                }
                io::ErrorKind::PermissionDenied => {
                    (ErrorKind::Denied, "ports below 1024 need rights of their own: choose another")
                }
                _ => (ErrorKind::Config, "name an address of this machine, such as 127.0.0.1"),
            };
            Error::new(kind, "open webhook", why).hint(hint)
        };
        let listener = TcpListener::bind(place).await.map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        let server = Self {
            address,
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
            connections: TaskTracker::new(),
        };
        let accepting = Accepting {
            door: Arc::clone(door),
            tls,
            stop: server.stop.clone(),
            end: server.end.clone(),
            connections: server.connections.clone(),
        };
        tokio::spawn(accepting.run(listener));
        Ok(server)
    }

    /// Accepts nothing any more, and waits until all that came before is answered, for so long.
    pub(super) async fn close(&self, deadline: Duration) {
        self.stop.cancel();
        self.connections.close();
        if timeout(deadline, self.connections.wait()).await.is_err() {
            self.end.cancel();
            self.connections.wait().await;
        }
    }
}

/// The task that accepts.
struct Accepting {
    door: Arc<Door>,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
    end: CancellationToken,
    connections: TaskTracker,
}

impl Accepting {
    async fn run(self, listener: TcpListener) {
        let most = self.door.limits.connections.min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(most));
        let next = async || {
            // Where there is no room they wait in the system's own queue, which is bounded.
            let room = Arc::clone(&room).acquire_owned().await.ok()?;
            Some((listener.accept().await, room))
        };
        while let Some(Some((accepted, room))) = self.stop.run_until_cancelled(next()).await {
            match accepted {
                Ok((stream, _)) => {
                    let serving =
                        serve(stream, Arc::clone(&self.door), self.tls.clone(), self.stop.clone());
                    let end = self.end.clone();
                    self.connections.spawn(async move {
                        end.run_until_cancelled(serving).await;
                        drop(room);
                    });
                }
                // It was gone before it was accepted, or files are short.
                Err(error) => {
                    tracing::warn!(%error, "a webhook's connection could not be accepted");
                    let _ = self.stop.run_until_cancelled(sleep(PAUSE)).await;
                }
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    door: Arc<Door>,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    // Answers are small; one that waits for more to send waits in vain.
    let _ = stream.set_nodelay(true);
    match tls {
        None => talk(stream, door, stop).await,
        Some(tls) => {
            let shaken = timeout(door.limits.head_time, tls.accept(stream)).await;
            // Who speaks no TLS is let go; many that do so fill no log.
            if let Ok(Ok(stream)) = shaken {
                Box::pin(talk(stream, door, stop)).await;
            }
        }
    }
}

async fn talk<S>(stream: S, door: Arc<Door>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let head_time = door.limits.head_time;
    let service = service_fn(move |request: Request<Incoming>| {
        let door = Arc::clone(&door);
        async move {
            let answer = match request.uri().path() == door.path {
                true => door.answer(request).await,
                false => Answer::NOT_HERE,
            };
            Ok::<_, Infallible>(answer.response())
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_time);
    builder.max_headers(HEADERS_MAX).max_buf_size(HEAD_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a webhook's connection ended");
    }
}
