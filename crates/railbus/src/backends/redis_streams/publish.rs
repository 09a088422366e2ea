//! Publishing: events to the stream's end, those of many callers in one request.

use super::{
    entry::{DELAY, EVENT, KEY, TOPIC},
    id::millis,
    keys::Keys,
    trim::Trimming,
};
use crate::{
    backend::Outgoing,
    backends::{
        gather::{Gather, Limits},
        redis::{link::Link, send::send_all, store::check_size},
    },
    codec,
    error::Result,
};
use redis::Cmd;
use std::sync::Arc;

/// How large the requests are that publishes are put together in. With two on their way, the next is
/// written while the server works on the one before.
const LIMITS: Limits = Limits { items: 512, weight: 1 << 20, flights: 2 };

/// An event on its way out.
#[derive(Debug)]
pub(super) struct Ready {
    topic: String,
    body: Vec<u8>,
    key: Option<String>,
    delay: Option<u64>,
    // The input and the reason, if it never became an event.
    rejected: Option<(String, String)>,
}

impl Ready {
    /// Checks and encodes one event.
    pub(super) fn make(outgoing: &Outgoing, payload_max: usize) -> Result<Self> {
        let event = &outgoing.event;
        event.check()?;
        check_size(outgoing, payload_max)?;
        let input = outgoing.position.as_ref().map_or("", |position| &*position.input);
        Ok(Self {
            topic: event.topic().into(),
            body: codec::encode(event)?,
            key: event.key().map(str::to_owned),
            delay: event.delay().map(millis),
            rejected: outgoing.rejected.as_ref().map(|why| (input.into(), why.clone())),
        })
    }

    fn weight(&self) -> usize {
        self.topic.len() + self.body.len() + 80
    }

    fn command(&self, keys: &Keys) -> Cmd {
        let mut command = Cmd::with_capacity(11, self.weight() + keys.stream.len());
        if let Some((input, reason)) = &self.rejected {
            command.arg("XADD").arg(&keys.dead).arg("*");
            command.arg("subscription").arg(input).arg("reason").arg(reason).arg("attempt").arg(0);
            command.arg("f:topic").arg(&self.topic).arg("f:event").arg(self.body.as_slice());
            return command;
        }
        command.arg("XADD").arg(&keys.stream).arg("*");
        command.arg(TOPIC).arg(&self.topic).arg(EVENT).arg(self.body.as_slice());
        if let Some(key) = &self.key {
            command.arg(KEY).arg(key);
        }
        if let Some(delay) = self.delay {
            command.arg(DELAY).arg(delay);
        }
        command
    }
}

/// Makes the line in which those who publish wait.
pub(super) fn line(link: &Link, keys: &Arc<Keys>, trimming: Trimming) -> Gather<Ready> {
    let (link, keys, trimming) = (link.clone(), Arc::clone(keys), Arc::new(trimming));
    Gather::new(LIMITS, Ready::weight, move |items| {
        let (link, keys, trimming) = (link.clone(), Arc::clone(&keys), Arc::clone(&trimming));
        async move {
            let command = |one: &Ready| one.command(&keys);
            let sent = send_all(&link, &items, Ready::weight, command).await;
            if trimming.is_due(items.len()) {
                // Nobody who publishes waits for it.
                tokio::spawn(async move { trimming.run(&link, &keys).await });
            }
            sent
        }
    })
}
