//! Who asks again, and when: this and nobody else. The SDK's own tries are off.

use super::fault::{Class, Fault, fault, late};
use crate::{backends::gather::TRIED_FOR, error::Error};
use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use std::{error::Error as StdError, future::Future, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// How long an answer may take that nothing is waited for.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How often one that throttles is asked, and how long is waited between, growing up to the last.
const THROTTLED_TRIES: u32 = 8;
const WAIT: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(3);

/// How often is asked where nobody is there, or nobody knows.
const TRIES: u32 = 3;

/// What may be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing: whoever asks does it.
    Never,
    /// What was surely not done: it would be done twice.
    IfUndone,
    /// All: done twice it is what it is once.
    Always,
}

impl Again {
    /// Tells how long to wait before another try, after so many.
    pub(super) fn wait(self, class: Class, tries: u32) -> Option<Duration> {
        let most = match (self, class) {
            (Self::Never, _) | (_, Class::Final) => 0,
            (_, Class::Throttled) => THROTTLED_TRIES,
            (_, Class::Unsent) | (Self::Always, Class::Unknown) => TRIES,
            (Self::IfUndone, Class::Unknown) => 0,
        };
        (tries < most).then(|| {
            let wait = WAIT.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(WAIT_MAX);
            // So that those who were refused together do not come back together.
            wait.mul_f64(rand::random_range(0.5..1.0))
        })
    }
}

/// Asks until there is an answer, or a reason not to.
pub(super) async fn ask<T, E, F>(
    operation: &'static str,
    again: Again,
    within: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    let (began, mut tries) = (Instant::now(), 0);
    loop {
        tries += 1;
        let failed = match timeout(within, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => fault(operation, error),
            Err(elapsed) => late(operation, elapsed),
        };
        let Some(wait) = again.wait(failed.class, tries) else {
            return Err(match failed.class {
                Class::Unsent => Fault { error: tried(failed.error, began), ..failed },
                _ => failed,
            });
        };
        tracing::debug!(operation, tries, error = %failed.error, again_in = ?wait, "asking SQS again");
        sleep(wait).await;
    }
}

/// Says of an error that the service was looked for in vain: those who waited behind need not look.
fn tried(error: Error, began: Instant) -> Error {
    error.with(TRIED_FOR, format!("{:?}", began.elapsed()))
}
