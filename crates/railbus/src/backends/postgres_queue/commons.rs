//! What a fleet has in common beside events: marks, and buckets of tokens.

use super::{
    lines::{Lines, Value},
    settings::micros,
};
use crate::{
    backends::postgres::closed,
    commons::{Claim, Commons, Draw, Grant, Mark},
    error::Result,
};
use async_trait::async_trait;
use std::{
    borrow::Cow,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio_postgres::types::Type;

const OPERATION: &str = "commons";

/// What is kept in an open queue. It does not keep the queue open.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Weak<Lines>);

impl Shared {
    fn lines(&self) -> Result<Arc<Lines>> {
        self.0.upgrade().ok_or_else(|| closed(OPERATION))
    }
}

/// Writes a text in a way that the server's texts can have.
fn text(text: &str) -> Cow<'_, str> {
    match text.contains(['\0', '\u{1}']) {
        true => text.replace('\u{1}', "\u{1}1").replace('\0', "\u{1}0").into(),
        false => text.into(),
    }
}

#[async_trait]
impl Commons for Shared {
    async fn claim(&self, mark: Mark<'_>, holder: &str, lease: Duration) -> Result<Claim> {
        let (space, key, lease) = (text(mark.space), text(mark.key), micros(lease));
        let values: [Value<'_>; 4] =
            [(&space, Type::TEXT), (&key, Type::TEXT), (&holder, Type::TEXT), (&lease, Type::INT8)];
        let claim = "SELECT @.claim_mark($1, $2, $3, $4)";
        let said: i64 = self.lines()?.one(OPERATION, claim, &values).await?;
        Ok(match said {
            0 => Claim::Done,
            left @ 1.. => Claim::Held(Duration::from_micros(left.unsigned_abs())),
            _ => Claim::Mine,
        })
    }

    async fn commit(&self, mark: Mark<'_>, holder: &str, window: Duration) -> Result<bool> {
        let (space, key, window) = (text(mark.space), text(mark.key), micros(window));
        let values: [Value<'_>; 4] = [
            (&space, Type::TEXT),
            (&key, Type::TEXT),
            (&holder, Type::TEXT),
            (&window, Type::INT8),
        ];
        self.lines()?.one(OPERATION, "SELECT @.commit_mark($1, $2, $3, $4)", &values).await
    }

    async fn release(&self, mark: Mark<'_>, holder: &str) -> Result<()> {
        let (space, key) = (text(mark.space), text(mark.key));
        let values: [Value<'_>; 3] =
            [(&space, Type::TEXT), (&key, Type::TEXT), (&holder, Type::TEXT)];
        let release = "DELETE FROM @.common_marks WHERE space = $1 AND key = $2 AND holder = $3";
        self.lines()?.query(OPERATION, release, &values).await.map(drop)
    }

    async fn draw(&self, bucket: &str, draw: Draw) -> Result<Grant> {
        let (bucket, rate, ago) = (text(bucket), draw.rate, micros(draw.ago));
        let [burst, want, back, came] =
            [draw.burst, draw.want, draw.back, draw.came].map(i64::from);
        let values: [Value<'_>; 7] = [
            (&bucket, Type::TEXT),
            (&rate, Type::FLOAT8),
            (&burst, Type::INT8),
            (&want, Type::INT8),
            (&back, Type::INT8),
            (&came, Type::INT8),
            (&ago, Type::INT8),
        ];
        let draw = "SELECT @.draw_tokens($1, $2, $3, $4, $5, $6, $7)";
        let said: i64 = self.lines()?.one(OPERATION, draw, &values).await?;
        Ok(match said {
            count @ 1.. => Grant::Now(u32::try_from(count).unwrap_or(u32::MAX)),
            wait => Grant::In(Duration::from_micros(wait.unsigned_abs())),
        })
    }
}
