//! `railbus run` as a process: what goes in, what comes out, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ends;
mod fleet;
mod flows;
mod inputs;
mod layers;
mod postgres;
mod said;
mod scene;
mod steps;
mod streams;
