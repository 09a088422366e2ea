//! An async step that can't move between threads.
use railbus::step;
use std::{future::ready, rc::Rc};

#[step]
async fn holds(n: u8) -> u8 {
    let held = Rc::new(n);
    ready(()).await;
    *held
}

fn main() {}
