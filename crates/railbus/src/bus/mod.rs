//! The bus: a table of subscriptions over one backend.

mod report;
mod trie;
mod lists;
mod grams;
mod place;
mod index;
mod matches;
mod groups;
mod table;
mod failure;
mod dispatch;
mod members;
mod asking;
mod delayed;
mod early;
mod beside;
#[cfg(feature = "testing")]
mod watched;
mod open;
mod hearing;
mod close;
mod tell;
mod withdraw;
mod lanes;
mod join;
mod publish;
mod emit;
mod feed;
mod schedule;
mod idle;
mod reply;
mod request;
mod gate;
mod subscription;
mod entered;
mod subscribe;
mod set_up;
mod allowed;
mod producer;
mod consumer;
mod named;
mod subscriber;
mod cache;
mod loader;
mod waits;
mod registry;
#[cfg(all(test, railbus_loom))]
mod interleavings;

pub use close::Draining;
pub use consumer::Consumer;
#[cfg(feature = "app")]
pub(crate) use feed::{feed, resume};
pub(crate) use hearing::Hearing;
pub use loader::Loader;
pub use open::Bus;
pub(crate) use open::WeakBus;
pub use producer::Producer;
pub use registry::{CachedRegistry, Registering};
pub use report::{HandlerFailure, Report};
pub use schedule::{Scheduled, Scheduling};
pub use subscribe::{On, Opening};
pub use subscriber::{IsSubscriber, Subscriber};
pub use subscription::{Explanation, Guard, Subscription, SubscriptionId};
#[cfg(feature = "testing")]
pub(crate) use watched::Whose;
