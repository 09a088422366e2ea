//! Work that others may overtake, and that ends with its process.

use super::{luck::Fault, world::World};
use crate::{
    error::Result,
    handler::{AnyHandler, Call, Called, World as HandlersWorld},
};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Whose work it is.
#[derive(Clone)]
pub(super) struct Mortal {
    pub(super) world: Arc<World>,
    /// The process; empty for what can't die.
    pub(super) name: String,
    pub(super) gone: CancellationToken,
}

impl Mortal {
    /// Tells whether its process dies now.
    fn dies(&self) -> bool {
        let dies = !self.name.is_empty() && self.world.befalls(&self.name, Fault::Crash);
        if dies {
            self.gone.cancel();
        }
        dies
    }
}

pin_project_lite::pin_project! {
    /// Work whose turns the seed may pass to others, or put off; dropped when its process dies.
    pub(super) struct Jostled<F> {
        mortal: Mortal,
        #[pin]
        gone: WaitForCancellationFutureOwned,
        nap: Option<Pin<Box<Sleep>>>,
        #[pin]
        work: Option<F>,
    }
}

impl<F: Future> Jostled<F> {
    pub(super) fn new(mortal: Mortal, work: F) -> Self {
        let gone = mortal.gone.clone().cancelled_owned();
        Self { mortal, gone, nap: None, work: Some(work) }
    }
}

impl<F: Future> Future for Jostled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        if this.work.is_none() {
            return Poll::Pending;
        }
        if this.gone.poll(cx).is_ready() || this.mortal.dies() {
            this.work.set(None);
            return Poll::Pending;
        }
        if let Some(nap) = this.nap {
            if nap.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            *this.nap = None;
        } else {
            let (passes, nap) = {
                let mut luck = this.mortal.world.luck();
                (luck.passes(), luck.nap())
            };
            if let Some(millis) = nap {
                let nap = this.nap.insert(Box::pin(sleep(Duration::from_millis(millis))));
                if nap.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            if passes {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        match this.work.as_mut().as_pin_mut() {
            Some(work) => work.poll(cx),
            None => Poll::Pending,
        }
    }
}

/// A handler whose calls are jostled.
pub(super) struct JostledHandler {
    pub(super) mortal: Mortal,
    pub(super) handler: Box<dyn AnyHandler>,
}

impl AnyHandler for JostledHandler {
    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        if !self.handler.is_async() {
            return self.handler.call(call);
        }
        let called = async move {
            match self.handler.call(call) {
                Called::Now(outcome) => outcome,
                Called::Later(running) => running.await,
            }
        };
        Called::Later(Box::pin(Jostled::new(self.mortal.clone(), called)))
    }

    fn is_async(&self) -> bool {
        self.handler.is_async()
    }

    fn is_manual(&self) -> bool {
        self.handler.is_manual()
    }

    fn is_batch(&self) -> bool {
        self.handler.is_batch()
    }

    fn replies(&self) -> bool {
        self.handler.replies()
    }

    fn check(&self, world: &HandlersWorld) -> Result<()> {
        self.handler.check(world)
    }
}
