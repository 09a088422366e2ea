//! Publishing many events in few requests, each of which comes through in time.

use super::link::Link;
use crate::error::Result;
use redis::{Cmd, Pipeline, Value};

/// How many bytes one request has, the last event over. A batch of more goes in several, each with an
/// answer of its own, so that a slow way has time for each.
const BYTES_MAX: usize = 1 << 20;

/// Sends a command for each item and returns a result each, in their order. Once a request fails as a
/// whole, the rest is not sent, and has its error.
pub(in crate::backends) async fn send_all<T>(
    link: &Link,
    items: &[T],
    weigh: fn(&T) -> usize,
    command: impl Fn(&T) -> Cmd,
) -> Vec<Result<()>> {
    if let [one] = items {
        return vec![link.ask::<Value>("publish", &command(one)).await.map(drop)];
    }
    let mut results = Vec::with_capacity(items.len());
    while results.len() < items.len() {
        let rest = &items[results.len()..];
        let mut weight = 0;
        let fits = |item: &&T| {
            weight += weigh(item);
            weight <= BYTES_MAX
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let mut commands = Pipeline::with_capacity(count);
        for item in &rest[..count] {
            commands.add_command(command(item));
        }
        let (number, said) = match link.ask_all("publish", &commands).await {
            Ok(said) => said,
            Err(e) => {
                results.resize(items.len(), Err(e));
                break;
            }
        };
        let result = |value: Value| match value.extract_error() {
            Ok(_) => Ok(()),
            Err(e) => Err(link.failed("publish", number, e)),
        };
        results.extend(said.into_iter().map(result));
    }
    results
}
