//! The one way in which the project's backends are certified, and the certificates that it keeps.
// Each file that certifies needs its part of it.
#![allow(dead_code, unused_imports)]

mod keeping;
mod shown;

pub(crate) use keeping::{certified, kept};
pub(crate) use shown::{SERVER, shows, shows_in};
