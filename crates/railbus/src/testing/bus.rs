//! A bus to test with.

use crate::{bus::Bus, error::Result};

/// Opens a bus in memory that encodes every payload, as a store or a server would: what works on it
/// works there.
///
/// # Examples
/// ```
/// use railbus::{Event, testing};
///
/// #[railbus::test]
/// async fn what_is_published_is_counted() -> railbus::Result<()> {
///     let bus = testing::bus().await?;
///     assert_eq!(bus.publish(Event::new("order.placed")).await?.matched, 0);
///     bus.close().await
/// }
/// ```
///
/// # Errors
/// As [`Bus::open`].
pub async fn bus() -> Result<Bus> {
    Bus::open("memory:?wire=always").await
}
