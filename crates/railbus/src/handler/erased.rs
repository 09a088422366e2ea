//! Handlers without their types, as subscriptions keep them.

use super::{
    call::{Call, World},
    contract::{Called, Handler, Ready},
};
use crate::error::Result;
use std::marker::PhantomData;

/// A handler without its type.
pub(crate) trait AnyHandler: Send + Sync {
    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a>;
    fn is_async(&self) -> bool;
    fn is_manual(&self) -> bool;
    fn is_batch(&self) -> bool;
    fn replies(&self) -> bool;
    fn check(&self, world: &World) -> Result<()>;
}

struct Erased<H, M>(H, PhantomData<fn() -> M>);

impl<M: 'static, H: Handler<M>> AnyHandler for Erased<H, M> {
    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        self.0.call(call)
    }

    fn is_async(&self) -> bool {
        H::ASYNC
    }

    fn is_manual(&self) -> bool {
        H::MANUAL
    }

    fn is_batch(&self) -> bool {
        H::BATCH
    }

    fn replies(&self) -> bool {
        H::REPLIES
    }

    fn check(&self, world: &World) -> Result<()> {
        H::check(&Ready(world))
    }
}

pub(crate) fn erase<M: 'static, H: Handler<M>>(handler: H) -> Box<dyn AnyHandler> {
    Box::new(Erased(handler, PhantomData))
}
