//! One queue, and what is asked of it: ten at a time, with a result each.

use super::{
    ask::{ANSWER_WITHIN, Again, ask},
    fault::{Class, Fault, answered},
};
use crate::error::{Error, ErrorKind, Result};
use aws_sdk_sqs::{
    Client,
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
        DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
        QueueAttributeName, SendMessageBatchRequestEntry,
    },
};
use futures_util::{StreamExt, stream};
use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};
use tokio::time::sleep;

/// How many entries a request has, and how many bytes the messages of one.
pub(super) const ENTRIES_MAX: usize = 10;
pub(super) const BYTES_MAX: usize = 262_144;

/// How many requests of one call are on their way at once.
const AT_ONCE: usize = 16;

/// A message on its way out.
#[derive(Clone, Debug, Default)]
pub(super) struct Parcel {
    pub(super) body: String,
    pub(super) attributes: Vec<(String, String)>,
    /// In seconds.
    pub(super) delay: Option<i32>,
    /// What keeps its order, and what it is known by; of FIFO queues only.
    pub(super) group: Option<String>,
    pub(super) dedup: Option<String>,
}

impl Parcel {
    /// Returns its size, as SQS counts it.
    pub(super) fn weight(&self) -> usize {
        let attribute =
            |(name, value): &(String, String)| name.len() + "String".len() + value.len();
        self.body.len() + self.attributes.iter().map(attribute).sum::<usize>()
    }

    fn entry(&self, id: usize) -> Result<SendMessageBatchRequestEntry, BuildError> {
        let mut entry = SendMessageBatchRequestEntry::builder()
            .id(id.to_string())
            .message_body(&self.body)
            .set_delay_seconds(self.delay)
            .set_message_group_id(self.group.clone())
            .set_message_deduplication_id(self.dedup.clone());
        for (name, value) in &self.attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value);
            entry = entry.message_attributes(name, value.build()?);
        }
        entry.build()
    }
}

/// A queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    client: Client,
    pub(super) url: Arc<str>,
}

impl Queue {
    pub(super) fn new(client: &Client, url: impl Into<Arc<str>>) -> Self {
        Self { client: client.clone(), url: url.into() }
    }

    /// Tells whether the queue keeps the order of its events.
    pub(super) fn is_fifo(&self) -> bool {
        self.url.ends_with(".fifo")
    }

    /// Sends messages, in as few requests as take them; returns a result each.
    pub(super) async fn send(&self, parcels: &[Parcel]) -> Vec<Result<()>> {
        let parts = parts(parcels);
        if self.is_fifo() {
            return self.send_in_order(parcels, parts).await;
        }
        let sending = parts.into_iter().map(|part| self.send_part(&parcels[part]));
        let sending: Vec<_> = sending.collect();
        stream::iter(sending).buffered(AT_ONCE).collect::<Vec<_>>().await.concat()
    }

    /// Sends one request after another; behind one that fails nothing is sent, so that whoever tries it
    /// again sends all in order.
    async fn send_in_order(
        &self,
        parcels: &[Parcel],
        parts: Vec<std::ops::Range<usize>>,
    ) -> Vec<Result<()>> {
        let mut results: Vec<Result<()>> = Vec::with_capacity(parcels.len());
        for part in parts {
            let sent = self.send_part(&parcels[part]).await;
            let failed = sent.iter().find_map(|came| came.clone().err());
            results.extend(sent);
            if let Some(error) = failed {
                results.resize(parcels.len(), Err(error));
                break;
            }
        }
        results
    }

    async fn send_part(&self, parcels: &[Parcel]) -> Vec<Result<()>> {
        self.each("publish", Again::IfUndone, parcels.len(), |wanted| {
            let entries =
                wanted.iter().map(|n| parcels[*n].entry(*n)).collect::<Result<Vec<_>, _>>();
            async move {
                let entries = entries.map_err(unbuilt)?;
                let call = || {
                    let send = self.client.send_message_batch().queue_url(&*self.url);
                    send.set_entries(Some(entries.clone())).send()
                };
                let said = ask("publish", Again::IfUndone, ANSWER_WITHIN, call).await?;
                let done = said.successful.iter().map(|entry| entry.id.clone()).collect();
                Ok((done, said.failed))
            }
        })
        .await
    }

    /// Deletes messages by their receipts; returns a result each.
    pub(super) async fn delete(&self, receipts: &[Arc<str>]) -> Vec<Result<()>> {
        let parts = receipts.chunks(ENTRIES_MAX).map(|part| self.delete_part(part));
        let parts: Vec<_> = parts.collect();
        stream::iter(parts).buffered(AT_ONCE).collect::<Vec<_>>().await.concat()
    }

    async fn delete_part(&self, receipts: &[Arc<str>]) -> Vec<Result<()>> {
        self.each("settle", Again::Always, receipts.len(), |wanted| {
            let entry = |n: &usize| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string());
                entry.receipt_handle(&*receipts[*n]).build()
            };
            let entries = wanted.iter().map(entry).collect::<Result<Vec<_>, _>>();
            async move {
                let entries = entries.map_err(unbuilt)?;
                let call = || {
                    let delete = self.client.delete_message_batch().queue_url(&*self.url);
                    delete.set_entries(Some(entries.clone())).send()
                };
                let said = ask("settle", Again::Always, ANSWER_WITHIN, call).await?;
                let done = said.successful.iter().map(|entry| entry.id.clone()).collect();
                Ok((done, said.failed))
            }
        })
        .await
    }

    /// Hides messages for so many seconds from now on, or shows them at once; returns a result each.
    pub(super) async fn hide(&self, changes: &[(Arc<str>, i32)]) -> Vec<Result<()>> {
        let parts = changes.chunks(ENTRIES_MAX).map(|part| self.hide_part(part));
        let parts: Vec<_> = parts.collect();
        stream::iter(parts).buffered(AT_ONCE).collect::<Vec<_>>().await.concat()
    }

    async fn hide_part(&self, changes: &[(Arc<str>, i32)]) -> Vec<Result<()>> {
        self.each("settle", Again::Always, changes.len(), |wanted| {
            let entry = |n: &usize| {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(n.to_string());
                let (receipt, seconds) = &changes[*n];
                entry.receipt_handle(&**receipt).visibility_timeout(*seconds).build()
            };
            let entries = wanted.iter().map(entry).collect::<Result<Vec<_>, _>>();
            async move {
                let entries = entries.map_err(unbuilt)?;
                let call = || {
                    let change = self.client.change_message_visibility_batch();
                    change.queue_url(&*self.url).set_entries(Some(entries.clone())).send()
                };
                let said = ask("settle", Again::Always, ANSWER_WITHIN, call).await?;
                let done = said.successful.iter().map(|entry| entry.id.clone()).collect();
                Ok((done, said.failed))
            }
        })
        .await
    }

    /// Makes a request of entries, and again of those that the service could not take just then.
    async fn each<F>(
        &self,
        operation: &'static str,
        again: Again,
        count: usize,
        request: impl Fn(Vec<usize>) -> F,
    ) -> Vec<Result<()>>
    where
        F: Future<Output = Result<(Vec<String>, Vec<BatchResultErrorEntry>), Fault>>,
    {
        let lost = || {
            let why = "the answer does not say what became of it";
            Error::new(ErrorKind::Unavailable, operation, why)
        };
        let mut results: Vec<Result<()>> = vec![Err(lost()); count];
        let (mut wanted, mut tries) = ((0..count).collect::<Vec<_>>(), 0);
        loop {
            tries += 1;
            let (done, failed) = match request(wanted.clone()).await {
                Ok(said) => said,
                Err(fault) => {
                    wanted.iter().for_each(|n| results[*n] = Err(fault.error.clone()));
                    return results;
                }
            };
            for n in done.iter().filter_map(|id| id.parse::<usize>().ok()) {
                if let Some(result) = results.get_mut(n) {
                    *result = Ok(());
                }
            }
            let (mut next, mut wait) = (Vec::new(), None);
            for entry in failed {
                let Some(n) = entry.id.parse::<usize>().ok().filter(|n| *n < count) else {
                    continue;
                };
                let status = if entry.sender_fault { 400 } else { 500 };
                let message = entry.message.as_deref().unwrap_or_default();
                let mut fault = answered(operation, status, &entry.code, message);
                // Of a batch it is known that this one was not taken.
                if fault.class == Class::Unknown {
                    fault.class = Class::Throttled;
                }
                if let Some(so_long) = again.wait(fault.class, tries) {
                    next.push(n);
                    wait = Some(so_long);
                }
                results[n] = Err(fault.error);
            }
            let Some(wait) = wait else { return results };
            sleep(wait).await;
            wanted = next;
        }
    }

    /// Waits so long for messages, and hides those that come.
    ///
    /// # Errors
    /// Returns what the service says: nothing is tried again.
    pub(super) async fn receive(
        &self,
        most: i32,
        wait: Duration,
        hidden: Duration,
    ) -> Result<Vec<Message>> {
        let seconds = |time: Duration| i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
        let call = || {
            let receive = self.client.receive_message().queue_url(&*self.url);
            receive
                .max_number_of_messages(most)
                .wait_time_seconds(seconds(wait))
                .visibility_timeout(seconds(hidden))
                .message_system_attribute_names(MessageSystemAttributeName::All)
                .message_attribute_names("All")
                .send()
        };
        let said = ask("fetch", Again::Never, wait + ANSWER_WITHIN, call).await;
        Ok(said.map_err(|fault| fault.error)?.messages.unwrap_or_default())
    }

    /// Asks for all attributes of the queue.
    ///
    /// # Errors
    /// Returns what the service says.
    pub(super) async fn attributes(
        &self,
        operation: &'static str,
    ) -> Result<HashMap<QueueAttributeName, String>> {
        let call = || {
            let get = self.client.get_queue_attributes().queue_url(&*self.url);
            get.attribute_names(QueueAttributeName::All).send()
        };
        let said = ask(operation, Again::Always, ANSWER_WITHIN, call).await;
        let said = said.map_err(|fault| fault.error.with("queue", &self.url))?;
        Ok(said.attributes.unwrap_or_default())
    }

    /// Makes the queue, if it is not there.
    ///
    /// # Errors
    /// Returns what the service says.
    pub(super) async fn create(&self) -> Result<()> {
        let name = self.url.rsplit('/').next().unwrap_or_default();
        let call = || {
            let create = self.client.create_queue().queue_name(name);
            match self.is_fifo() {
                true => create.attributes(QueueAttributeName::FifoQueue, "true").send(),
                false => create.send(),
            }
        };
        let said = ask("open sqs", Again::Always, ANSWER_WITHIN, call).await;
        said.map(drop).map_err(|fault| fault.error.with("queue", name))
    }

    /// Deletes the queue, with all that is in it.
    ///
    /// # Errors
    /// Returns what the service says.
    pub(super) async fn destroy(&self) -> Result<()> {
        let call = || self.client.delete_queue().queue_url(&*self.url).send();
        let said = ask("prune", Again::Always, ANSWER_WITHIN, call).await;
        said.map(drop).map_err(|fault| fault.error.with("queue", &self.url))
    }

    /// Asks for the queue's tags.
    ///
    /// # Errors
    /// Returns what the service says.
    pub(super) async fn tags(&self) -> Result<HashMap<String, String>> {
        let call = || self.client.list_queue_tags().queue_url(&*self.url).send();
        let said = ask("groups", Again::Always, ANSWER_WITHIN, call).await;
        Ok(said.map_err(|fault| fault.error)?.tags.unwrap_or_default())
    }

    /// Adds a tag.
    ///
    /// # Errors
    /// Returns what the service says.
    pub(super) async fn tag(&self, key: &str, value: &str) -> Result<()> {
        let call = || self.client.tag_queue().queue_url(&*self.url).tags(key, value).send();
        let said = ask("subscribe", Again::Always, ANSWER_WITHIN, call).await;
        said.map(drop).map_err(|fault| fault.error)
    }
}

/// Returns the URLs of all queues whose names begin like this.
///
/// # Errors
/// Returns what the service says.
pub(super) async fn list(client: &Client, prefix: &str) -> Result<Vec<String>> {
    let (mut urls, mut next) = (Vec::new(), None::<String>);
    loop {
        let call = || {
            let list = client.list_queues().max_results(1000).set_next_token(next.clone());
            list.queue_name_prefix(prefix).send()
        };
        let said = ask("groups", Again::Always, ANSWER_WITHIN, call).await;
        let said = said.map_err(|fault| fault.error)?;
        urls.extend(said.queue_urls.unwrap_or_default());
        next = said.next_token;
        if next.is_none() {
            return Ok(urls);
        }
    }
}

fn unbuilt(error: BuildError) -> Fault {
    let why = "the request can't be made";
    Fault { class: Class::Final, error: Error::new(ErrorKind::Internal, "sqs", why).because(error) }
}

/// Cuts messages into requests: ten of them, and no more bytes than one may have.
fn parts(parcels: &[Parcel]) -> Vec<std::ops::Range<usize>> {
    let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (n, parcel) in parcels.iter().enumerate() {
        let weight = parcel.weight();
        match parts.last_mut() {
            Some(part) if part.len() < ENTRIES_MAX && bytes + weight <= BYTES_MAX => {
                part.end = n + 1;
                bytes += weight;
            }
            _ => {
                parts.push(n..n + 1);
                bytes = weight;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_ten_messages_and_no_more_bytes_than_sqs_takes() {
        let of = |bytes: usize| Parcel { body: "x".repeat(bytes), ..Parcel::default() };
        let cut = |sizes: &[usize]| -> Vec<usize> {
            let parcels: Vec<_> = sizes.iter().map(|size| of(*size)).collect();
            parts(&parcels).into_iter().map(|part| part.len()).collect()
        };
        assert_eq!(cut(&[]), [0; 0]);
        assert_eq!(cut(&[1; 21]), [10, 10, 1]);
        assert_eq!(cut(&[BYTES_MAX, 1]), [1, 1]);
        assert_eq!(cut(&[BYTES_MAX / 2, BYTES_MAX / 2, 1]), [2, 1]);
    }
}
