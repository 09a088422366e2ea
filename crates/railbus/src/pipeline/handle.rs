//! Pipelines as handlers.

use super::parts::Pipeline;
use crate::{
    delivery::IntoOutcome,
    handler::{Call, Called, Handler},
};

/// Marks pipelines.
#[derive(Debug)]
pub struct IsPipeline;

#[diagnostic::do_not_recommend]
impl Handler<IsPipeline> for Pipeline {
    const ASYNC: bool = true;

    /// Runs the pipeline for the event. A run that ends in a failure is not tried again; one that
    /// ends in an exception is, as the subscription's policy says.
    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        let delivery = call.delivery();
        Called::Later(Box::pin(async move {
            self.run_for(&delivery).await.into_result().into_outcome()
        }))
    }
}
