//! What a fleet has in common beside events: marks, and buckets of tokens.

use super::{
    keys::Keys,
    script::{COMMONS, number, odd},
};
use crate::{
    backends::redis::link::Link,
    commons::{Claim, Commons, Draw, Grant, Mark},
    error::Result,
};
use async_trait::async_trait;
use redis::Cmd;
use std::{sync::Arc, time::Duration};

const OPERATION: &str = "commons";

/// The longest time that is told, in milliseconds: some thousand years.
const LONGEST: u128 = 1 << 47;

/// What is kept beside a stream.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) keys: Arc<Keys>,
}

impl Shared {
    async fn ask(&self, arguments: impl Fn(&mut Cmd)) -> Result<i64> {
        let said = COMMONS.run(&self.link, &self.keys, OPERATION, arguments).await?;
        number(&said).ok_or_else(|| odd(OPERATION))
    }
}

/// Writes a time, rounded up.
fn millis(time: Duration) -> String {
    time.as_nanos().div_ceil(1_000_000).min(LONGEST).to_string()
}

fn time(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

#[async_trait]
impl Commons for Shared {
    async fn claim(&self, mark: Mark<'_>, holder: &str, lease: Duration) -> Result<Claim> {
        let lease = millis(lease);
        let said = self.ask(|command| {
            command.arg("claim").arg(mark.space).arg(mark.key).arg(holder).arg(&lease);
        });
        Ok(match said.await? {
            0 => Claim::Done,
            left @ 1.. => Claim::Held(time(left)),
            _ => Claim::Mine,
        })
    }

    async fn commit(&self, mark: Mark<'_>, holder: &str, window: Duration) -> Result<bool> {
        let window = millis(window);
        let said = self.ask(|command| {
            command.arg("commit").arg(mark.space).arg(mark.key).arg(holder).arg(&window);
        });
        Ok(said.await? == 1)
    }

    async fn release(&self, mark: Mark<'_>, holder: &str) -> Result<()> {
        let said = self.ask(|command| {
            command.arg("release").arg(mark.space).arg(mark.key).arg(holder);
        });
        said.await.map(drop)
    }

    async fn draw(&self, bucket: &str, draw: Draw) -> Result<Grant> {
        let Draw { rate, burst, want, back, came, ago } = draw;
        // All that was drawn before is older than this.
        let ago = ago.as_millis().min(LONGEST).to_string();
        let said = self.ask(|command| {
            command.arg("draw").arg(bucket).arg(rate).arg(burst).arg(want);
            command.arg(back).arg(came).arg(&ago);
        });
        Ok(match said.await? {
            count @ 1.. => Grant::Now(u32::try_from(count).unwrap_or(want)),
            wait => Grant::In(time(wait)),
        })
    }
}
