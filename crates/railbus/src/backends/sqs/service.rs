//! A place and how it is reached: what all parts of the work share.

use super::{
    directory::{Directory, named},
    message::Reading,
    place::{GROUP, Whose},
    queue::{Queue, list},
    settings::{CAPABILITY, FIFO, Settings},
};
use crate::{
    backend::Capability,
    error::{Error, ErrorKind, Result},
};
use aws_sdk_sqs::Client;
use futures_util::{StreamExt, stream};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use tokio::time::Instant;

/// How many queues are asked for their tags at once.
const AT_ONCE: usize = 8;

/// The group whose queue of dead letters has what never became an event.
const NOBODY: &str = "railbus-rejected";

/// A place and how it is reached.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) directory: Arc<Directory>,
    /// The queue of dead letters that the queue itself names.
    pub(super) redrive: Option<String>,
    pub(super) capability: Capability,
    pub(super) is_closed: AtomicBool,
    /// The group that the queue has, where it has one.
    served: Mutex<Option<String>>,
}

impl Service {
    pub(super) fn new(client: Client, settings: Settings, redrive: Option<String>) -> Self {
        let place = &settings.place;
        let way = settings.endpoint.as_deref().or(settings.region.as_deref()).unwrap_or_default();
        let directory = Directory::of(format!("{} by {way}", place.url()));
        settings.groups.iter().flatten().for_each(|group| directory.add(group));
        let mut capability = if place.is_fifo() { FIFO } else { CAPABILITY };
        capability.dead_letters =
            place.is_grouped() || settings.dead.is_some() || redrive.is_some();
        let (is_closed, served) = (AtomicBool::new(false), Mutex::default());
        Self { client, settings, directory, redrive, capability, is_closed, served }
    }

    pub(super) fn check_open(&self) -> Result<()> {
        match self.is_closed.load(SeqCst) {
            true => Err(closed()),
            false => Ok(()),
        }
    }

    /// Notes which group the queue has.
    pub(super) fn serve(&self, group: &str) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(group.into());
    }

    /// Returns the group that the queue has, if this bus is in it.
    pub(super) fn served(&self) -> Option<String> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a group's queue.
    ///
    /// # Errors
    /// Returns a config error if its name is too long for one.
    pub(super) fn queue(&self, group: &str) -> Result<Queue> {
        Ok(Queue::new(&self.client, self.settings.place.of_group(group)?))
    }

    /// Returns the queue with a group's dead letters, if there is one; without a group, with those of
    /// what never became an event.
    ///
    /// # Errors
    /// Returns a config error if its name is too long for one.
    pub(super) fn dead(&self, group: Option<&str>) -> Result<Option<Queue>> {
        let settings = &self.settings;
        let url = match (&settings.dead, &self.redrive) {
            (Some(dead), _) => dead.of_group(group.unwrap_or(NOBODY))?,
            (None, Some(url)) => url.clone(),
            (None, None) if settings.place.is_grouped() => {
                settings.place.dead().of_group(group.unwrap_or(NOBODY))?
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Queue::new(&self.client, url)))
    }

    /// Tells whether all groups' dead letters are in one queue.
    pub(super) fn is_dead_shared(&self) -> bool {
        let settings = &self.settings;
        !settings.place.is_grouped()
            || settings.dead.as_ref().is_some_and(|dead| !dead.is_grouped())
    }

    /// Returns what reads the messages of a queue.
    pub(super) fn reading(&self) -> Reading {
        let name = self.settings.place.name().replacen(GROUP, "", 1);
        Reading { format: self.settings.format, name }
    }

    /// Looks which groups there are, if that was long ago.
    ///
    /// # Errors
    /// Returns what the service says.
    pub(super) async fn look(&self, anew: bool) -> Result<()> {
        if !self.settings.place.is_grouped() || self.settings.groups.is_some() {
            return Ok(());
        }
        // One at a time: whoever waited need not look any more.
        let asked = Instant::now();
        let mut looked = self.directory.looked.lock().await;
        let every = self.settings.groups_every;
        let is_fresh = |at: Instant| at >= asked || (!anew && at.elapsed() < every);
        if looked.is_some_and(is_fresh) {
            return Ok(());
        }
        let at = Instant::now();
        let urls =
            list(&self.client, self.settings.place.prefix()).await.map_err(|error| match error
                .kind()
            {
                ErrorKind::Denied => {
                    error.hint("allow sqs:ListQueues, or name the groups: groups = a,b")
                }
                _ => error,
            })?;
        let place = &self.settings.place;
        let whose = urls.iter().filter_map(|url| Some((url, place.group_of(url)?)));
        let asking = whose.map(async |(url, whose)| {
            let tags = match Queue::new(&self.client, &**url).tags().await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                // Who may not look sends everything.
                Err(error) if error.kind() == ErrorKind::Denied => HashMap::new(),
                tags => tags?,
            };
            let group = match whose {
                Whose::Group(group) => Some(group),
                Whose::Tagged => named(&tags),
            };
            Ok(group.map(|group| (group, tags)))
        });
        let asking: Vec<_> = asking.collect();
        let found: Vec<Result<_>> = stream::iter(asking).buffer_unordered(AT_ONCE).collect().await;
        let found: Result<Vec<_>> = found.into_iter().filter_map(Result::transpose).collect();
        self.directory.found(found?);
        *looked = Some(at);
        Ok(())
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "sqs", "the backend is closed")
}
