//! tokio's broadcast channel: each receiver takes its copy, on the same thread.

use crate::{
    arrivals::{arrive, counted},
    order::order,
};
use harness::Contender;
use tokio::sync::broadcast;

/// Sends to so many receivers.
pub(crate) fn send(receivers: usize) -> Contender<'static> {
    let (sender, _) = broadcast::channel(16);
    let mut receivers: Vec<_> = (0..receivers).map(|_| sender.subscribe()).collect();
    let arrivals = receivers.len() as u64;
    Contender::peer("tokio broadcast", move |times| {
        counted(|| {
            for _ in 0..times {
                sender.send(order())?;
                for receiver in &mut receivers {
                    if receiver.try_recv()?.lines == 2 {
                        arrive();
                    }
                }
            }
            Ok(())
        })
    })
    .arrivals(arrivals)
}
