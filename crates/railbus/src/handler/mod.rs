//! Handlers: what runs for an event.

mod call;
mod contract;
mod extract;
mod functions;
mod objects;
mod erased;
mod batch;
mod gather;

pub use batch::{Batch, Item};
pub use call::Call;
pub(crate) use call::World;
pub use contract::{Called, Handler};
pub(crate) use erased::{AnyHandler, erase};
pub use extract::{FromDelivery, Payload};
pub use functions::{IsAsync, IsSync, IsSyncRef};
pub(crate) use gather::{Gathered, Size};
pub use objects::{AsyncHandler, IsAsyncObject, IsSyncObject, SyncHandler};
