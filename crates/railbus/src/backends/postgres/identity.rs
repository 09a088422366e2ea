//! Who answers: the server itself, or a pool that stands before it.

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio_postgres::{
    CancelToken,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

/// What asks for TLS, before the request itself. Source: PostgreSQL 15, 55.7, `SSLRequest`.
const ASKS_FOR_TLS: i32 = 80_877_103;

/// Returns the number of the process that the server named when the connection was made.
///
/// A pool names one of its own, so that a number that is not that of the process which answers tells
/// of it. The client keeps the number to itself, except where it asks to cancel: here it writes that
/// request into memory, and nothing is cancelled.
pub(super) async fn process_id(token: &CancelToken) -> Option<i32> {
    let (near, mut far) = duplex(64);
    let asking = token.cancel_query_raw(near, Unchanged);
    let reading = async {
        // Should it ask whether there is TLS: there is.
        far.write_all(b"S").await.ok()?;
        let mut head = [0; 8];
        far.read_exact(&mut head).await.ok()?;
        if head[4..] == ASKS_FOR_TLS.to_be_bytes() {
            far.read_exact(&mut head).await.ok()?;
        }
        far.read_i32().await.ok()
    };
    tokio::join!(asking, reading).1
}

/// In place of TLS: the bytes as they are.
struct Unchanged;

impl TlsConnect<DuplexStream> for Unchanged {
    type Stream = Bare;
    type Error = io::Error;
    type Future = Ready<io::Result<Bare>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Bare(stream)))
    }
}

struct Bare(DuplexStream);

impl TlsStream for Bare {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Bare {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Bare {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
