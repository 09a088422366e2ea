//! What a subscription asks for, held against what its backend can do.

use super::{join::LEASE, open::able, subscribe::On};
use crate::{
    backend::{Broadcast, Capability, Keyed, Order, Patterns, Replay, Start},
    consumer::{Able, Lack},
    delivery::Then,
    error::{Error, ErrorKind, Result},
    handler::{AnyHandler, Size},
};
use std::time::Duration;

impl On {
    /// Refuses what can't be, before anything is opened.
    pub(super) fn check(&self, handler: &dyn AnyHandler) -> Result<()> {
        let capability = self.bus.capability();
        let config = |why: &'static str, hint: &str| {
            Err(Error::new(ErrorKind::Config, "subscribe", why).hint(hint))
        };
        match &self.group {
            Some(group) if group.is_empty() || group.len() > 256 => {
                return config("a group's name has 1 to 256 bytes", "give it another name");
            }
            Some(_) if !capability.groups => {
                return Err(capability.refuse("subscribe", "has no groups", &able(|c| c.groups)));
            }
            None if capability.broadcast == Broadcast::None => {
                let able = able(|c| c.broadcast == Broadcast::Live);
                return Err(capability.refuse("subscribe", "has no broadcast", &able));
            }
            Some(_) if self.policy().then == Then::DeadLetter && !capability.dead_letters => {
                let able = able(|c| c.groups && c.dead_letters);
                let error = capability.refuse("subscribe", "keeps no dead letters", &able);
                return Err(error.hint("say what follows instead: .then(Then::Drop)"));
            }
            None if self.start.is_some() => {
                return config("only a group starts somewhere", "give the subscription a group");
            }
            None if self.limit.is_some() || self.lease != LEASE => {
                let why = "a broadcast has no limit and no lease: each is handled as it comes";
                return config(why, "give the subscription a group");
            }
            None if !self.credits.is_empty() => {
                let why = "a broadcast is not fetched: nothing can be held back from it";
                return config(why, "give the subscription a group");
            }
            None if self.then == Some(Then::DeadLetter) => {
                let why = "a broadcast is not stored and has no dead letters";
                return config(why, "give the subscription a group");
            }
            _ => {}
        }
        if handler.is_manual() && !(self.manual && self.group.is_some()) {
            let why = "the handler takes a Lease, but the delivery is settled for it";
            return config(why, "add .manual() to a subscription with a group");
        }
        if self.manual && !handler.is_manual() {
            let why = "the delivery is to be settled by hand, but the handler takes no Lease";
            return config(why, "take a Lease as an argument, or leave out .manual()");
        }
        self.check_batch(handler)?;
        if self.limit == Some(0) {
            return config("a limit of 0 would handle nothing", "set at least 1");
        }
        if capability.patterns == Patterns::None && !self.predicate.interest().is_plain() {
            let able = able(|c| c.patterns != Patterns::None);
            return Err(capability.refuse("subscribe", "matches no patterns", &able));
        }
        if matches!(self.start, Some(Start::At(_))) && capability.replay != Replay::Time {
            let able = able(|c| c.replay == Replay::Time);
            return Err(capability.refuse("subscribe", "can't start at a time", &able));
        }
        if self.order == Order::ByKey {
            self.check_order(capability)?;
        }
        if self.group.is_some() {
            self.check_lease(capability)?;
            self.check_tries(capability)?;
        }
        self.predicate.check()
    }

    fn check_batch(&self, handler: &dyn AnyHandler) -> Result<()> {
        let config = |why: String, hint: &str| {
            Err(Error::new(ErrorKind::Config, "subscribe", why).hint(hint))
        };
        let Some(Size { max, .. }) = self.batch else {
            if handler.is_batch() {
                let why = "the handler takes a Batch, but is given one event after another";
                return config(why.into(), "add .batch(max, linger) to the subscription");
            }
            return Ok(());
        };
        if !handler.is_batch() {
            let why = "events are gathered into batches, but the handler takes one";
            return config(why.into(), "take them as an argument of type Batch<T>");
        }
        match self.limit {
            _ if max == 0 => config("a batch of 0 events".into(), "set at least 1"),
            Some(limit) if limit < max => config(
                format!("a batch of {max} events never fills: the limit is {limit}"),
                "set a limit of at least a batch; it counts events",
            ),
            _ => Ok(()),
        }
    }

    fn check_order(&self, capability: &Capability) -> Result<()> {
        if self.group.is_none() {
            let why = "only a group is ordered by key";
            return Err(Error::new(ErrorKind::Config, "subscribe", why)
                .hint("give the subscription a group; broadcasts come in the order of their bus"));
        }
        match capability.keyed {
            Keyed::None => {
                let able = able(|c| c.keyed != Keyed::None);
                Err(capability.refuse("subscribe", "keeps no order by key", &able))
            }
            Keyed::Group => Ok(()),
        }
    }

    /// Refuses tries that the backend can neither count nor hold back.
    fn check_tries(&self, capability: &Capability) -> Result<()> {
        if self.manual && !capability.extends {
            let able = able(|c| c.groups && c.extends);
            let what = "extends no lease, so that nothing can be settled by hand";
            return Err(capability.refuse("subscribe", what, &able));
        }
        let (what, able, hint) = match Able::of(capability, self.lease).lacks(&self.policy().retry)
        {
            None => return Ok(()),
            Some(Lack::Counting) => (
                "counts no tries from one delivery to the next".to_owned(),
                able(|c| c.groups && c.counts_attempts),
                "allow one try, .retry(Retry::attempts(1))",
            ),
            Some(Lack::Delay(most)) => (
                format!("holds an event back for at most {most:?}, less than a retry waits"),
                able(|c| c.groups && c.delay_max.is_some()),
                "set shorter waits, .retry(..) with .max_backoff(..)",
            ),
        };
        let hint = format!("{hint}, or use a backend that does: {}", able.join(", "));
        Err(capability.refuse("subscribe", &what, &[]).hint(hint))
    }

    fn check_lease(&self, capability: &Capability) -> Result<()> {
        let refuse = |what: &str, bound: Duration| {
            let why = format!("{} has leases of {what} {bound:?}", capability.name);
            let error = Error::new(ErrorKind::Config, "subscribe", why);
            Err(error.with("lease", format!("{:?}", self.lease)).hint("set .lease(..) within it"))
        };
        match (capability.lease_min, capability.lease_max) {
            (Some(least), _) if self.lease < least => refuse("at least", least),
            (_, Some(most)) if self.lease > most => refuse("at most", most),
            _ => Ok(()),
        }
    }
}
