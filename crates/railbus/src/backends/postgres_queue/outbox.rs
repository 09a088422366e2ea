//! Publishing in a transaction of one's own.

use super::{
    publish::{Columns, ENLIST, Ready, make_ready, parts},
    settings::CAPABILITY,
};
use crate::{
    backend::Outgoing,
    backends::postgres::{fault, quote},
    error::Result,
    event::Event,
};
use tokio_postgres::{GenericClient, types::Type};

const NOTIFY: &str = "SELECT pg_notify($1, '')";

/// Publishes in a transaction of one's own: the events are there when it commits, with whatever else it
/// did, and never if it does not.
///
/// It has no connection and no state: it may be made once and used everywhere. Only the database
/// must be the one that the bus is on.
///
/// # Examples
/// ```no_run
/// use railbus::{Event, backends::postgres_queue::Outbox};
///
/// # async fn place(client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let outbox = Outbox::new("railbus")?;
/// let transaction = client.transaction().await?;
/// transaction.execute("INSERT INTO orders (total) VALUES (42)", &[]).await?;
/// outbox.publish(&transaction, Event::new("order.placed").payload(42)).await?;
/// let told = ["ada", "bob"].map(|name| Event::new("told").payload(name));
/// outbox.publish_all(&transaction, told).await?;
/// transaction.commit().await?; // all, or nothing
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Outbox {
    enlist: String,
    channel: String,
}

impl Outbox {
    /// Creates an outbox of the queue whose tables are in `schema`.
    ///
    /// # Errors
    /// Returns a config error if no queue can be in a schema of that name.
    pub fn new(schema: &str) -> Result<Self> {
        super::settings::check_schema("outbox", schema)?;
        Ok(Self {
            enlist: ENLIST.replace("@.", &format!("{}.", quote(schema))),
            channel: super::settings::channel_of(schema),
        })
    }

    /// Publishes an event when `transaction` commits.
    ///
    /// Consumers hear of it at once when it commits, which makes such commits stand in line on the
    /// server; [`Outbox::publish_all`] with many events does that once.
    ///
    /// # Errors
    /// Returns an error if the event is not valid or too large, or if the server refuses it, which
    /// ends the transaction.
    pub async fn publish(
        &self,
        transaction: &impl GenericClient,
        event: impl Into<Event>,
    ) -> Result<()> {
        self.publish_all(transaction, [event.into()]).await
    }

    /// Publishes events, in their order, when `transaction` commits.
    ///
    /// # Errors
    /// As [`Outbox::publish`]; none is published if one is not valid.
    pub async fn publish_all(
        &self,
        transaction: &impl GenericClient,
        events: impl IntoIterator<Item = Event> + Send,
    ) -> Result<()> {
        let ready: Result<Vec<Ready>> = events
            .into_iter()
            .map(|event| make_ready(&Outgoing::from(event), CAPABILITY.payload_max))
            .collect();
        let ready = ready?;
        let is_empty = ready.is_empty();
        let failed = |e| fault("outbox", "the transaction's", e);
        let parts = parts(ready);
        for part in parts.iter().flat_map(|part| part.chunks(CAPABILITY.batch_max)) {
            let columns = Columns::of(part);
            transaction.query_typed(&self.enlist, &columns.values()).await.map_err(failed)?;
        }
        if !is_empty {
            let value = [(&self.channel as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT)];
            transaction.query_typed(NOTIFY, &value).await.map_err(failed)?;
        }
        Ok(())
    }
}
