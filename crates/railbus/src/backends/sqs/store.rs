//! The backend: the contracts, handed to the parts that do the work.

use super::{
    client::connect,
    dead::{self, rejected},
    directory::name_tags,
    letters::{self, count},
    look::redrive,
    message::whole_seconds,
    publish::{Ready, line},
    queue::{Queue, list},
    seat::Seat,
    service::{Service, closed},
    settings::Settings,
    source::Member,
};
use crate::{
    backend::{
        Backend, Capability, GroupInfo, Keeper, Letter, LetterFilter, LetterId, Outgoing, Source,
        Start, Subscribe,
    },
    backends::gather::Gather,
    codec::Format,
    error::{Error, ErrorKind, Result},
    options::Options,
    predicate::Interest,
    task,
};
use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName as Name;
use futures_util::future::join_all;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering::SeqCst},
    time::Duration,
};
use tokio::time::sleep;

/// How often it is asked whether groups are through: at first, and at last.
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_millis(500);

/// Checks the settings, without looking at the service.
///
/// # Errors
/// Returns a config error that names the setting that is unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    Settings::read(options).map(drop)
}

/// Returns where requests go, if that is a place to which they may go by another way: not encrypted.
pub(crate) fn upstream(options: &Options) -> Option<String> {
    let endpoint = Settings::read(options).ok()?.endpoint?;
    let authority = endpoint.strip_prefix("http://")?.split('/').next()?;
    let has_port = authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
    Some(if has_port { authority.to_owned() } else { format!("{authority}:80") })
}

/// Looks for credentials, and for the queue.
///
/// # Errors
/// Returns what is wrong with the options, the credentials or the queue.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    let settings = Settings::read(&options)?;
    let client = connect(&settings).await?;
    let mut redrives = None;
    if settings.place.is_grouped() {
        if settings.groups.is_none() {
            list(&client, settings.place.prefix()).await?;
        }
    } else {
        let queue = Queue::new(&client, settings.place.url());
        let mut said = queue.attributes("open sqs").await;
        if settings.create && said.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            queue.create().await?;
            said = queue.attributes("open sqs").await;
        }
        match said {
            Ok(said) => redrives = said.get(&Name::RedrivePolicy).cloned(),
            // Who may only send, receive and delete need not see it.
            Err(error) if is_no_right(&error) => {
                tracing::debug!(%error, "the queue may not be looked at");
            }
            Err(error) => return Err(error),
        }
    }
    let redrive = redrives.map(|policy| redrive(&policy)).transpose()?;
    // arn:aws:sqs:REGION:ACCOUNT:NAME
    let redrive = redrive.and_then(|(arn, _)| {
        let (rest, name) = arn.rsplit_once(':')?;
        let (_, account) = rest.rsplit_once(':')?;
        Some(settings.place.beside(account, name))
    });
    let service = Arc::new(Service::new(client, settings, redrive));
    let line = line(&service);
    Ok(Arc::new(Sqs { service, line, members: Mutex::default() }))
}

/// Tells whether what is refused is one action, and not the credentials.
fn is_no_right(error: &Error) -> bool {
    let code = error.value("code").unwrap_or_default();
    error.kind() == ErrorKind::Denied && code.starts_with("AccessDenied")
}

#[derive(Debug)]
struct Sqs {
    service: Arc<Service>,
    line: Gather<Ready>,
    members: Mutex<Vec<Weak<Member>>>,
}

impl Sqs {
    fn members(&self) -> Vec<Arc<Member>> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members.iter().filter_map(Weak::upgrade).collect()
    }

    /// Refuses a second group on one queue: it would take the first one's events.
    fn check_group(&self, group: &str) -> Result<()> {
        if self.service.settings.place.is_grouped() {
            return Ok(());
        }
        let taken = self.members().into_iter().find(|m| !m.is_stopped() && m.group() != group);
        match taken {
            None => {
                self.service.serve(group);
                Ok(())
            }
            Some(other) => {
                let why = "a queue has one group, and this bus is in another one";
                Err(Error::new(ErrorKind::Unsupported, "subscribe", why)
                    .with("group", group)
                    .with("taken_by", other.group())
                    .hint(
                        "give each group a queue of its own: write {group} into the queue's name",
                    ))
            }
        }
    }

    /// Makes the group's queue if it is not there and may be made, and says what the group wants.
    async fn join(&self, queue: &Queue, group: &str, interest: &Interest) -> Result<()> {
        let directory = &self.service.directory;
        let missing = |error: &Error| error.kind() == ErrorKind::NotFound;
        match directory.join(queue, group, interest).await {
            Err(error) if missing(&error) => {
                directory.forget(group);
                if !self.service.settings.create {
                    return Err(error.with("group", group).with("queue", &queue.url));
                }
                queue.create().await?;
                if self.service.settings.place.is_tagged(group) {
                    for (key, value) in name_tags(group) {
                        queue.tag(&key, &value).await?;
                    }
                }
                directory.join(queue, group, interest).await
            }
            joined => joined,
        }
    }

    /// Keeps as a dead letter what never became an event.
    async fn reject(&self, outgoing: &Outgoing, reason: &str) -> Result<()> {
        let letter = rejected(outgoing, reason, self.service.settings.place.is_fifo())?;
        let sent = dead::send(&self.service, None, &[letter]).await;
        sent.into_iter().collect()
    }

    /// Counts what a group has not settled, and how much of it is held.
    async fn counts(&self, queue: &Queue) -> Result<(u64, u64)> {
        let said = queue.attributes("groups").await?;
        let hidden = count(&said, &Name::ApproximateNumberOfMessagesNotVisible);
        let others = count(&said, &Name::ApproximateNumberOfMessages)
            + count(&said, &Name::ApproximateNumberOfMessagesDelayed);
        Ok((others + hidden, hidden))
    }

    async fn info(&self, group: &str) -> Result<Option<GroupInfo>> {
        let (lag, leased) = match self.counts(&self.service.queue(group)?).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            counts => counts?,
        };
        let letters = match self.service.dead(Some(group))? {
            None => 0,
            Some(queue) => match self.counts(&queue).await {
                Ok((all, _)) => all,
                Err(error) if [ErrorKind::NotFound, ErrorKind::Denied].contains(&error.kind()) => 0,
                Err(error) => return Err(error),
            },
        };
        Ok(Some(self.service.directory.info(group, lag, leased, letters)))
    }
}

#[async_trait]
impl Backend for Sqs {
    fn capability(&self) -> &Capability {
        &self.service.capability
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        if let Err(error) = self.service.check_open() {
            return vec![Err(error); batch.len()];
        }
        let (mut ready, mut results) = (Vec::new(), Vec::with_capacity(batch.len()));
        for outgoing in batch {
            if let Some(reason) = &outgoing.rejected {
                results.push(Err(self.reject(outgoing, reason).await));
                continue;
            }
            match Ready::make(&self.service, outgoing) {
                Ok(one) => {
                    ready.push(one);
                    results.push(Ok(()));
                }
                Err(error) => results.push(Err(Err(error))),
            }
        }
        let mut sent = match ready.is_empty() {
            true => Vec::new(),
            false => self.line.put(ready).await,
        }
        .into_iter();
        let mut next = || sent.next().unwrap_or_else(|| Err(closed()));
        results
            .into_iter()
            .map(|made| match made {
                Ok(()) => next(),
                Err(came) => came,
            })
            .collect()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        let service = &self.service;
        service.check_open()?;
        let Subscribe { group, interest, lease, .. } = request;
        let Some(group) = group else {
            let what = "broadcasts inside a process only, where no source is asked for";
            return Err(service.capability.refuse("subscribe", what, &[]));
        };
        self.check_group(&group)?;
        let queue = service.queue(&group)?;
        if service.settings.place.is_grouped() {
            self.join(&queue, &group, &interest).await?;
        }
        let lease = Duration::from_secs(whole_seconds(lease)).max(service.settings.visibility);
        let wants = Arc::new(interest.compile());
        let seat = Seat::new(Arc::clone(service), queue, group, wants, lease);
        let member = Arc::new(Member::new(seat));
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&member));
        Ok(member)
    }

    fn is_bare(&self) -> bool {
        self.service.settings.format == Format::Plain
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        let mut wait = LOOK_MIN;
        'look: loop {
            for (group, _) in groups {
                let counts = self.counts(&self.service.queue(group)?).await;
                let left = match counts {
                    Err(error) if error.kind() == ErrorKind::NotFound => 0,
                    counts => counts?.0,
                };
                if left > 0 {
                    sleep(wait).await;
                    wait = (wait * 2).min(LOOK_MAX);
                    continue 'look;
                }
            }
            return Ok(());
        }
    }

    async fn ping(&self) -> Result<()> {
        let service = &self.service;
        service.check_open()?;
        let asked = match service.settings.place.is_grouped() {
            true => list(&service.client, service.settings.place.prefix()).await.map(drop),
            false => service.queue("")?.attributes("ping").await.map(drop),
        };
        match asked {
            // It answers, whatever it does not allow.
            Err(error) if is_no_right(&error) => Ok(()),
            asked => asked,
        }
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let members = self.members();
        members.iter().for_each(|member| member.stop());
        let closing = join_all(members.iter().map(|member| member.close()));
        let _ = task::within(deadline, closing).await;
        self.service.is_closed.store(true, SeqCst);
        Ok(())
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        Some(self)
    }
}

#[async_trait]
impl Keeper for Sqs {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.service.check_open()?;
        let names = match self.service.settings.place.is_grouped() {
            true => {
                self.service.look(true).await?;
                self.service.directory.names()
            }
            false => vec![self.service.served().unwrap_or_else(|| self.service.reading().name)],
        };
        let infos = join_all(names.iter().map(|name| self.info(name))).await;
        infos.into_iter().filter_map(Result::transpose).collect()
    }

    async fn prune(&self, group: &str) -> Result<()> {
        let service = &self.service;
        service.check_open()?;
        let missing = |known: Vec<String>| {
            let hint = match known.is_empty() {
                true => "there are no groups yet".into(),
                false => format!("known groups: {}", known.join(", ")),
            };
            let why = "there is no such group";
            Error::new(ErrorKind::NotFound, "groups", why).with("group", group).hint(hint)
        };
        if !service.settings.place.is_grouped() {
            let served = service.served().unwrap_or_else(|| service.reading().name);
            if served != group {
                return Err(missing(vec![served]));
            }
            let what = "has a queue that other programs may use: it is not deleted for a group";
            return Err(service.capability.refuse("groups", what, &[]));
        }
        let queue = service.queue(group)?;
        // Deleting one that is not there is no error everywhere.
        if let Err(error) = queue.attributes("groups").await {
            service.directory.forget(group);
            return Err(match error.kind() {
                ErrorKind::NotFound => missing(service.directory.names()),
                _ => error,
            });
        }
        queue.destroy().await?;
        service.directory.forget(group);
        if !service.is_dead_shared()
            && let Some(dead) = service.dead(Some(group))?
            && let Err(error) = dead.destroy().await
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        Ok(())
    }

    async fn replay(&self, _: &str, _: Start) -> Result<u64> {
        self.service.check_open()?;
        Err(self.service.capability.refuse("replay", "keeps nothing that was settled", &[]))
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>> {
        letters::letters(&self.service, filter).await
    }

    async fn redrive(&self, ids: &[LetterId]) -> Result<u64> {
        self.service.check_open()?;
        letters::redrive(&self.service, ids).await
    }

    async fn purge(&self, ids: &[LetterId]) -> Result<u64> {
        self.service.check_open()?;
        letters::purge(&self.service, ids).await
    }
}
