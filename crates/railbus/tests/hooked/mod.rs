//! Both ends of a webhook, byte by byte. Not every test needs each of them.
#![allow(dead_code, unused_imports)]

mod client;
pub(crate) mod server;

pub(crate) use client::{Answer, Client, post, request};
