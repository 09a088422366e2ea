//! What the layers of a subscription ask for, and the policy that it comes to.

use super::subscribe::On;
use crate::{delivery::FailurePolicy, error::Result, middleware::Setup};

impl On {
    /// Lets the layers say what they need.
    pub(super) fn set_up(&mut self) -> Result<()> {
        let bus = &self.bus;
        let commons = || bus.commons();
        let mut setup = Setup {
            group: self.group.as_deref(),
            name: self.name.as_deref(),
            lease: self.lease,
            manual: self.manual,
            batch: self.batch.is_some(),
            commons: &commons,
            retry: self.retry.clone(),
            credits: Vec::new(),
        };
        if let Some(retry) = self.retry.clone().filter(|_| self.retry_twice) {
            setup.retry(retry)?;
        }
        self.layers.iter().try_for_each(|layer| layer.open(&mut setup))?;
        let Setup { retry, credits, .. } = setup;
        self.retry = retry;
        credits.into_iter().for_each(|credit| self.credits.add(credit));
        Ok(())
    }

    pub(super) fn policy(&self) -> FailurePolicy {
        let mut policy = match self.group {
            Some(_) => FailurePolicy::for_group(),
            None => FailurePolicy::for_broadcast(),
        };
        if let Some(retry) = &self.retry {
            policy.retry = retry.clone();
        }
        policy.then = self.then.unwrap_or(policy.then);
        policy.classify = self.classify.unwrap_or(policy.classify);
        policy
    }
}
