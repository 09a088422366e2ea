//! The task that a connection lives in.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{AsyncMessage, Connection, Notification};

/// Who hears what the server tells unasked. Called on the connection's task: it must not block.
pub(in crate::backends) type Ear = Arc<dyn Fn(Notification) + Send + Sync>;

/// Talks to the server until the connection ends.
pub(super) async fn drive<S, T>(mut connection: Connection<S, T>, ear: Option<Ear>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let talk = poll_fn(|cx| {
        loop {
            match ready!(connection.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notification(note))) => {
                    if let Some(ear) = &ear {
                        ear(note);
                    }
                }
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    tracing::debug!(%notice, "the server remarks");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection to PostgreSQL broke");
                    return Poll::Ready(());
                }
                None => return Poll::Ready(()),
            }
        }
    });
    talk.await;
}
