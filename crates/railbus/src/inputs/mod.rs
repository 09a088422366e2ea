//! Inputs of an app: where its events come from.

mod lines;

mod record;

mod reader;

pub mod ndjson;

pub mod interval;
