//! Looking at a queue from outside: what `doctor` tells of it.

use super::{client::connect, letters::count, queue::Queue, queue::list, settings::Settings};
use crate::{
    backends::checkup::{Check, Checkup},
    error::{Error, ErrorKind, Result},
    options::Options,
};
use aws_sdk_sqs::types::QueueAttributeName;
use std::{thread, time::Instant};
use tokio::runtime::Builder;

/// What is said of a queue that opening makes.
const NOT_THERE: &str = "it is not there yet: opening makes it";

/// Looks at the queue; nothing is changed. May block.
#[must_use]
pub fn look(options: &Options) -> Checkup {
    let mut checkup = Checkup::default();
    let settings = match Settings::read(options) {
        Ok(settings) => settings,
        Err(error) => {
            checkup.checks.push(Check::failed("settings", &error));
            return checkup;
        }
    };
    let way = settings.endpoint.as_deref().or(settings.region.as_deref());
    let detail =
        format!("{} by {}", settings.place.url(), way.unwrap_or("the environment's region"));
    checkup.checks.push(Check::ok("settings", detail));
    let creates = settings.create;
    // On a thread of its own: whoever asks may be inside a runtime.
    let looking = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| {
            Error::new(ErrorKind::Internal, "look at sqs", "there is no runtime").because(e)
        })?;
        Ok(runtime.block_on(ask(&settings)))
    });
    let died = |_| Err(Error::new(ErrorKind::Internal, "look at sqs", "looking panicked"));
    match looking.join().unwrap_or_else(died) {
        Ok(checks) => {
            checkup.begins = creates && checks.iter().any(|check| check.detail == NOT_THERE);
            checkup.checks.extend(checks);
        }
        Err(error) => checkup.checks.push(Check::failed("service", &error)),
    }
    checkup
}

async fn ask(settings: &Settings) -> Vec<Check> {
    let client = match connect(settings).await {
        Ok(client) => client,
        Err(error) => return vec![Check::failed("credentials", &error)],
    };
    let mut checks = vec![Check::ok("credentials", "found")];
    let began = Instant::now();
    if settings.place.is_grouped() {
        let found = list(&client, settings.place.prefix()).await.map(|urls| {
            let groups: Vec<_> =
                urls.iter().filter_map(|url| settings.place.group_of(url)).collect();
            let took = began.elapsed();
            Check::ok("queues", format!("{} groups, answered in {took:?}", groups.len()))
        });
        checks.push(found.unwrap_or_else(|error| Check::failed("queues", &error)));
        return checks;
    }
    let queue = Queue::new(&client, settings.place.url());
    let said = match queue.attributes("look at sqs").await {
        Ok(said) => said,
        Err(error) if error.kind() == ErrorKind::Denied => {
            let advice = "allow sqs:GetQueueAttributes, so that more can be told";
            checks.push(Check::warn("queue", "it may not be looked at", advice));
            return checks;
        }
        Err(error) if error.kind() == ErrorKind::NotFound && settings.create => {
            checks.push(Check::ok("queue", NOT_THERE));
            return checks;
        }
        Err(error) => {
            checks.push(Check::failed("queue", &error));
            return checks;
        }
    };
    let number = |name| count(&said, &name);
    let detail = format!(
        "{} to fetch, {} held, {} held back, answered in {:?}",
        number(QueueAttributeName::ApproximateNumberOfMessages),
        number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
        number(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
        began.elapsed()
    );
    checks.push(Check::ok("queue", detail));
    checks.push(dead(settings, said.get(&QueueAttributeName::RedrivePolicy)));
    let max = number(QueueAttributeName::MaximumMessageSize);
    if max > 0 && max < super::queue::BYTES_MAX as u64 {
        let detail = format!("the queue takes messages of {max} bytes at most");
        checks.push(Check::warn("size", detail, "raise its MaximumMessageSize to 262144"));
    }
    checks
}

fn dead(settings: &Settings, policy: Option<&String>) -> Check {
    match (&settings.dead, policy) {
        (Some(dead), _) => Check::ok("dead letters", format!("go to {}", dead.url())),
        (None, Some(policy)) => match redrive(policy) {
            Ok((arn, most)) => Check::ok(
                "dead letters",
                format!("go to {arn}; the queue itself moves what was received {most} times"),
            ),
            Err(error) => Check::failed("dead letters", &error),
        },
        (None, None) => Check::warn(
            "dead letters",
            "there is no queue for them",
            "set dlq_url, or a redrive policy on the queue",
        ),
    }
}

/// Reads which queue a redrive policy names, and after how many receipts.
///
/// # Errors
/// Returns a corrupt error if it names none.
pub(super) fn redrive(policy: &str) -> Result<(String, u64)> {
    let odd = || Error::new(ErrorKind::Corrupt, "open sqs", "the redrive policy can't be read");
    let policy: serde_json::Value = serde_json::from_str(policy).map_err(|e| odd().because(e))?;
    let arn = policy["deadLetterTargetArn"].as_str().ok_or_else(odd)?;
    let most = &policy["maxReceiveCount"];
    let most = most.as_u64().or_else(|| most.as_str()?.parse().ok()).unwrap_or(0);
    Ok((arn.to_owned(), most))
}
