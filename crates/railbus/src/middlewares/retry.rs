//! How often it is tried, said as a layer.

use crate::{
    delivery::{Delivery, Outcome},
    error::Result,
    middleware::{Middleware, Next, Setup},
    retry::Retry,
};
use async_trait::async_trait;

/// Sets how often the subscription is tried, as `.retry(..)` does: its place among the layers means
/// nothing, since its failure policy is outside of all of them, and each try goes through all.
/// Setting it twice is refused when the subscription opens.
#[async_trait]
impl Middleware for Retry {
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
        next.run(delivery).await
    }

    fn open(&self, setup: &mut Setup<'_>) -> Result<()> {
        setup.retry(self.clone())
    }
}
