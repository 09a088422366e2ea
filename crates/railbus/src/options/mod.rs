//! One map of settings, whether they came as a URL, a TOML table, a map or the environment.

mod redact;
mod misspelt;
mod size;
mod server;
mod settings;
mod read;
mod into;

pub use into::IntoOptions;
pub use misspelt::misspelt;
pub use redact::redact;
pub use settings::{Options, Setting};
