//! evenio: events sent to the handlers of a world.

use crate::{
    arrivals::{arrive, counted},
    order::{Order, order},
};
use evenio::prelude::*;
use harness::Contender;

#[derive(GlobalEvent)]
struct Placed(Order);

fn handle(placed: Receiver<Placed>) {
    if placed.event.0.lines == 2 {
        arrive();
    }
}

/// Sends to so many handlers.
pub(crate) fn send(handlers: usize) -> Contender<'static> {
    let mut world = World::new();
    for _ in 0..handlers {
        world.add_handler(handle.no_type_id());
    }
    Contender::peer("evenio", move |times| {
        counted(|| {
            for _ in 0..times {
                world.send(Placed(order()));
            }
            Ok(())
        })
    })
    .arrivals(handlers as u64)
}
