//! `#[step]`.

mod argument;
mod settings;
mod work;
mod function;
mod block;

pub(crate) use block::expand as block;
pub(crate) use function::expand as function;
