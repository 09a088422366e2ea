//! Handlers: what runs for an event.

mod call;
mod contract;
mod extract;
mod functions;
mod objects;
mod erased;

pub use call::Call;
pub(crate) use call::World;
pub use contract::{Called, Handler};
pub(crate) use erased::{AnyHandler, erase};
pub use extract::{FromDelivery, Payload};
pub use functions::{IsAsync, IsSync, IsSyncRef};
pub use objects::{AsyncHandler, IsAsyncObject, IsSyncObject, SyncHandler};
