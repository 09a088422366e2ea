//! The bare client: prepared statements, one connection that publishes and one that listens.

use crate::server::server;
use harness::{Failed, Result};
use std::{
    future::poll_fn,
    task::{Poll, ready},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement};

/// How many payloads one statement takes.
pub(crate) const STATEMENT: u64 = 100;

/// A connection that publishes.
pub(crate) struct Raw {
    client: Client,
    one: Statement,
    many: Statement,
}

/// Connects; what is notified arrives at the receiver.
pub(crate) async fn connect() -> Result<(Client, UnboundedReceiver<String>)> {
    let url = server()?.url("postgres");
    let (client, mut connection) = tokio_postgres::connect(&url, NoTls).await?;
    let (tell, told) = unbounded_channel();
    tokio::spawn(poll_fn(move |cx| {
        loop {
            match ready!(connection.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notification(note))) => {
                    let _ = tell.send(note.payload().to_owned());
                }
                Some(Ok(_)) => {}
                _ => return Poll::Ready(()),
            }
        }
    }));
    Ok((client, told))
}

/// Connects and listens.
pub(crate) async fn listen() -> Result<(Client, UnboundedReceiver<String>)> {
    let (client, told) = connect().await?;
    client.batch_execute("LISTEN raw").await?;
    Ok((client, told))
}

impl Raw {
    pub(crate) async fn open() -> Result<Self> {
        let (client, _) = connect().await?;
        let one = client.prepare("SELECT pg_notify('raw', $1)").await?;
        let many = client.prepare("SELECT count(pg_notify('raw', t)) FROM unnest($1::text[]) t");
        let many = many.await?;
        Ok(Self { client, one, many })
    }

    pub(crate) async fn notify(&self, payload: &str) -> Result<()> {
        self.client.query(&self.one, &[&payload]).await?;
        Ok(())
    }

    pub(crate) async fn notify_all(&self, payloads: &[String]) -> Result<()> {
        self.client.query(&self.many, &[&payloads]).await.map(drop).map_err(Failed::from)
    }
}
