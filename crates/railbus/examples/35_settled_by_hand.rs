//! Settled by hand: a handler that hands its event on, and says itself when it is done; and an event
//! for later that is withdrawn.

use railbus::{
    Bus, Event, Retry,
    backend::LetterFilter,
    delivery::{Lease, Nack},
};
use std::time::Duration;
use tokio::sync::mpsc;

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::open("memory:").await?;
    let (work, mut jobs) = mpsc::channel::<(Event, Lease)>(8);
    // The lease goes along: it is kept until the event is settled, wherever that is.
    let hand_on = async move |event: Event, lease: Lease| work.send((event, lease)).await;
    let on = bus.on("photo.taken").group("prints").retry(Retry::attempts(2)).manual();
    on.run(hand_on).await?;

    let printer = tokio::spawn(async move {
        while let Some((event, lease)) = jobs.recv().await {
            match event.payload::<u32>() {
                Ok(number) => {
                    // Still ours? Printing can't be undone.
                    lease.extend().await?;
                    println!("printed {number}");
                    lease.ack().await?;
                }
                Err(error) => {
                    let reason = error.to_string();
                    lease.nack(Nack { delay: Duration::from_millis(1), reason });
                }
            }
        }
        Ok::<_, railbus::Error>(())
    });
    bus.publish(Event::new("photo.taken").payload(1)).await?;
    bus.publish(Event::new("photo.taken").payload("blurred")).await?;
    let later = Event::new("photo.taken").delay(Duration::from_secs(3600)).payload(2);
    bus.publish(&later).await?;
    println!("withdrawn: {}", bus.withdraw(later.id()).await?);
    bus.idle().await?;
    for letter in bus.keeper()?.letters(&LetterFilter::default()).await? {
        println!("given up after {} tries", letter.attempts);
    }
    bus.close().await?;
    drop(bus);
    printer.abort();
    Ok(())
}
