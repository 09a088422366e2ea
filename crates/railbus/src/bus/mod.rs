//! The bus: a table of subscriptions over one backend.

mod dispatch;
mod members;
mod open;
mod publish;
mod report;
mod subscribe;
mod subscription;
mod table;

pub use open::{Bus, Draining};
pub use report::Report;
pub use subscribe::{On, Opening};
pub use subscription::Subscription;
