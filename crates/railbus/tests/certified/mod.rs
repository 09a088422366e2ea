//! The certificates that the project keeps.
#![allow(dead_code, unused_imports)]

mod keeping;

pub(crate) use keeping::{certified, kept};
