//! One request: how large it may be, what waits for one, and what those are told whose it was.

use crate::error::{Error, ErrorKind, Result};
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// How large requests may be, and how many are on their way at once.
#[derive(Clone, Copy, Debug)]
pub(in crate::backends) struct Limits {
    /// Items of a request. What one caller gives together stays together, even if it is more.
    pub(in crate::backends) items: usize,
    /// The weight of a request, with the same exception.
    pub(in crate::backends) weight: usize,
    /// Requests on their way at once.
    pub(in crate::backends) flights: usize,
    /// While the requests on their way are of so many callers, no further one goes beside them: what
    /// comes goes together when they are back.
    pub(in crate::backends) callers: usize,
}

/// What an error says that came of looking for a server: for how long. Nothing was sent.
pub(in crate::backends) const TRIED_FOR: &str = "tried_for";

/// How much may wait to be sent: whoever gives more waits before it is taken.
pub(super) const ROOM: u32 = 1 << 16;
pub(super) const ROOM_UNIT: usize = 1 << 10;

/// Sends a request and returns one result an item, in their order.
pub(super) type Sending<T> = dyn Fn(Vec<T>) -> Request + Send + Sync;

/// A request on its way.
pub(super) type Request = BoxFuture<'static, Vec<Result<()>>>;

/// What somebody gave to be sent.
pub(super) struct Waiting<T> {
    pub(super) items: Vec<T>,
    pub(super) weight: usize,
    pub(super) reply: oneshot::Sender<Vec<Result<()>>>,
    // For as long as it waits.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// Tells whoever gave so much that nobody is left to send it.
pub(super) fn cut_off(count: usize) -> Vec<Result<()>> {
    let why = "the task that was to send it has ended";
    let error = Error::new(ErrorKind::Unavailable, "publish", why)
        .hint("it may not have been sent: publish it again, under its id");
    vec![Err(error); count]
}
