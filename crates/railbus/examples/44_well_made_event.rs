//! A well-made event: what happened is the payload; id, version, source and correlation are the envelope's.

use railbus::{Bus, Event, Payload};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event("user.email_changed", version = "1.0")]
struct EmailChanged {
    user_id: String,
    old: String,
    new: String,
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    let tell = |event: Event, change: Payload<EmailChanged>| {
        println!("{}: {} -> {}", change.user_id, change.old, change.new);
        println!("{} from {}, {}", event.id(), event.source(), event.correlation_id());
    };
    bus.on(EmailChanged::TYPE).run(tell).await?;
    let change = EmailChanged {
        user_id: "user_456".into(),
        old: "old@example.com".into(),
        new: "new@example.com".into(),
    };
    bus.publish(change.into_draft().id("evt_123").source("user-service").correlation("req_789"))
        .await?;
    Ok(())
}
