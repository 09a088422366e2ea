//! Who has no password is told so.

use crate::{
    conformance::{
        finding::{Checked, Excuse, Finding, ensure},
        stage::Stage,
    },
    error::ErrorKind,
};
use std::time::{Duration, Instant};

/// How long a refusal may take, on a machine that is not slow.
const WITHIN: Duration = Duration::from_secs(5);

/// A wrong password is a typed error within seconds, and is not tried again and again.
pub(super) async fn wrong_password(stage: &Stage) -> Checked<Finding> {
    let began = Instant::now();
    let Some(opened) = stage.open_as_stranger().await? else {
        return Ok(Finding::NotRun("it has no server that could ask for a password".into()));
    };
    let opened = match opened {
        // It may only be asked for once something is wanted.
        Ok(backend) => {
            let answer = stage.within("an answer", backend.ping()).await?;
            // Whatever it says, it was let in or it was not.
            let _ = backend.close(Duration::from_secs(1)).await;
            answer
        }
        Err(error) => Err(error),
    };
    let took = began.elapsed();
    let Err(error) = opened else {
        return Ok(Finding::NotRun("the server lets everybody in".into()));
    };
    let typed = error.kind() == ErrorKind::Denied && !error.is_retryable();
    ensure(typed, || format!("a wrong password must be a denied error, and gave {error:?}"))?;
    ensure(took <= WITHIN || stage.excuses(Excuse::Slow), || format!("the refusal took {took:?}"))?;
    Ok(Finding::Passed(None))
}
