//! The bus: a table of subscriptions over one backend.

mod report;
mod dispatch;
mod table;
mod members;
mod open;
mod join;
mod publish;
mod subscription;
mod subscribe;

pub use open::{Bus, Draining};
pub use report::Report;
pub use subscribe::{On, Opening};
pub use subscription::Subscription;
