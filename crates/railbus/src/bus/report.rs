//! What a publish did.

/// What a publish did in this process.
///
/// Where handlers run inside publish (memory), it says how they fared; elsewhere it says how many
/// subscriptions of this bus are interested.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Subscriptions that want the event.
    pub matched: usize,
    /// Subscriptions that failed and were not tried again, each with its reason.
    pub failures: Vec<(String, String)>,
    /// Subscriptions that failed and are being tried again.
    pub retrying: usize,
}
