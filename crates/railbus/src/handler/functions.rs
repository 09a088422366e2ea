//! Functions and closures as handlers.

use super::{
    call::Call,
    contract::{Called, Handler, Ready},
    extract::FromDelivery,
};
use crate::{
    delivery::{IntoOutcome, Outcome},
    error::{Error, ErrorKind, Result},
    event::Event,
};
use std::future::Future;

/// Marks sync handlers.
#[derive(Debug)]
pub struct IsSync;
/// Marks async handlers.
#[derive(Debug)]
pub struct IsAsync;
/// Marks sync handlers that borrow the event.
#[derive(Debug)]
pub struct IsSyncRef;

impl<F, R> Handler<IsSyncRef> for F
where
    F: Fn(&Event) -> R + Send + Sync + 'static,
    R: IntoOutcome,
{
    const ASYNC: bool = false;
    const REPLIES: bool = R::REPLIES;

    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        Called::Now(self(call.event()).into_outcome())
    }
}

/// Refuses arguments of one event beside one of many.
fn of_one_kind(batch: bool, single: bool) -> Result<()> {
    if !(batch && single) {
        return Ok(());
    }
    let why = "the handler takes a Batch and an argument of one event beside it";
    Err(Error::new(ErrorKind::Config, "subscribe", why)
        .hint("beside a Batch it takes State, Context and Bus; each item has its event"))
}

macro_rules! handlers {
    ($($arg:ident),*) => {
        impl<F, R, $($arg,)*> Handler<(IsSync, $($arg,)*)> for F
        where
            F: Fn($($arg),*) -> R + Send + Sync + 'static,
            R: IntoOutcome,
            $($arg: FromDelivery,)*
        {
            const ASYNC: bool = false;
            const MANUAL: bool = false $(|| $arg::MANUAL)*;
            const BATCH: bool = false $(|| $arg::BATCH)*;
            const REPLIES: bool = R::REPLIES;

            #[allow(unused_variables)]
            fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
                Called::Now(self($(match $arg::from_delivery(&call) {
                    Ok(argument) => argument,
                    Err(e) => return Called::Now(Outcome::Failed(e)),
                }),*).into_outcome())
            }

            #[allow(unused_variables)]
            fn check(world: &Ready<'_>) -> Result<()> {
                $($arg::check(world)?;)*
                of_one_kind(false $(|| $arg::BATCH)*, false $(|| $arg::SINGLE)*)
            }
        }

        impl<F, Fut, $($arg,)*> Handler<(IsAsync, $($arg,)*)> for F
        where
            F: FnOnce($($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output: IntoOutcome> + Send + 'static,
            $($arg: FromDelivery,)*
        {
            const ASYNC: bool = true;
            const MANUAL: bool = false $(|| $arg::MANUAL)*;
            const BATCH: bool = false $(|| $arg::BATCH)*;
            const REPLIES: bool = <Fut::Output as IntoOutcome>::REPLIES;

            #[allow(unused_variables)]
            fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
                let running = (self.clone())($(match $arg::from_delivery(&call) {
                    Ok(argument) => argument,
                    Err(e) => return Called::Now(Outcome::Failed(e)),
                }),*);
                Called::Later(Box::pin(async move { running.await.into_outcome() }))
            }

            #[allow(unused_variables)]
            fn check(world: &Ready<'_>) -> Result<()> {
                $($arg::check(world)?;)*
                of_one_kind(false $(|| $arg::BATCH)*, false $(|| $arg::SINGLE)*)
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A, B);
handlers!(A, B, C);
handlers!(A, B, C, D);
