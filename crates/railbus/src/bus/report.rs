//! What a publish did.

/// What a publish did in this process.
///
/// Where handlers run inside publish (memory), it says how they fared; elsewhere it says how many
/// subscriptions of this bus are interested.
///
/// # Examples
/// ```
/// use railbus::{BoxError, Bus, Event, bus::HandlerFailure};
///
/// let bus = Bus::new();
/// bus.on("order.placed").run(|_: &Event| Err::<(), BoxError>("no stock".into())).now()?;
/// let report = bus.emit(Event::new("order.placed"))?;
/// assert_eq!((report.matched, report.failures.len()), (1, 1));
/// let failure: &HandlerFailure = &report.failures[0];
/// assert_eq!(failure.error, "no stock");
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Subscriptions that wanted the event.
    pub matched: usize,
    /// Subscriptions that failed and were not tried again.
    pub failures: Vec<HandlerFailure>,
    /// Subscriptions that failed and are being tried again.
    pub retrying: usize,
}

/// A subscription that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerFailure {
    /// The subscription's name.
    pub subscription: String,
    /// Why, with all causes.
    pub error: String,
}
