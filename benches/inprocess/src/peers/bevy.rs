//! bevy_ecs: events that trigger the observers of a world.

use crate::{
    arrivals::{arrive, counted},
    order::{Order, order},
};
use bevy_ecs::prelude::*;
use harness::Contender;

#[derive(Event)]
struct Placed(Order);

fn handle(placed: On<'_, '_, Placed>) {
    if placed.event().0.lines == 2 {
        arrive();
    }
}

/// Triggers so many observers.
pub(crate) fn trigger(observers: usize) -> Contender<'static> {
    let mut world = World::new();
    for _ in 0..observers {
        world.add_observer(handle);
    }
    world.flush();
    Contender::peer("bevy_ecs observers", move |times| {
        counted(|| {
            for _ in 0..times {
                world.trigger(Placed(order()));
            }
            Ok(())
        })
    })
    .arrivals(observers as u64)
}
