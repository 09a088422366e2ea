//! What the row of a delivery remembers: who is through with it, and what failed.

use crate::{
    backend::HISTORY_MAX,
    delivery::{End, Try},
};
use std::collections::BTreeMap;

/// How each subscription of a group got through with an event, by name.
pub(super) type Ends = BTreeMap<String, End>;

/// Ranks how a subscription got through, worst last.
pub(super) fn outcome_of(end: &End) -> i64 {
    match end {
        End::Unmatched => 1,
        End::Done => 2,
        End::Failed(_) => 3,
        End::Dead(_) => 4,
    }
}

/// Reads the map of finished subscriptions; what can't be read finishes nobody.
pub(super) fn ends(text: &str) -> Ends {
    serde_json::from_str(text).unwrap_or_default()
}

/// Adds failed tries to a history, keeping the latest [`HISTORY_MAX`].
pub(super) fn lengthen(history: Option<&str>, failed: &[Try]) -> Option<String> {
    if failed.is_empty() {
        return history.map(Into::into);
    }
    let mut tries: Vec<Try> =
        history.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    tries.extend_from_slice(failed);
    let surplus = tries.len().saturating_sub(HISTORY_MAX);
    serde_json::to_string(&tries[surplus..]).ok()
}

/// Returns the failed tries that concern a subscription, and the number of the latest.
pub(super) fn tries_of(history: Option<&str>, subscription: &str) -> (Option<String>, Option<u32>) {
    let mut tries: Vec<Try> =
        history.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    // A lease that ran out was nobody's in particular.
    tries.retain(|t| t.subscription == subscription || t.subscription.is_empty());
    (serde_json::to_string(&tries).ok(), tries.last().map(|t| t.attempt))
}
