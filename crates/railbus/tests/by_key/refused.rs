//! Who can't be asked for it.

use railbus::{
    Bus, ErrorKind, Event, Result,
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
};
use std::{sync::Arc, time::Duration};

#[railbus::test]
async fn a_broadcast_is_not_ordered_by_key() {
    let error = Bus::new().on("a").ordered_by_key().run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.advice().unwrap().contains("give the subscription a group"), "{error}");
}

/// A queue that knows nothing of keys.
#[derive(Debug)]
struct Queue(Capability);

#[async_trait::async_trait]
impl Backend for Queue {
    fn capability(&self) -> &Capability {
        &self.0
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }

    async fn subscribe(&self, _: Subscribe) -> Result<Arc<dyn Source>> {
        panic!("asked although it can't")
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> Result<()> {
        Ok(())
    }
}

#[railbus::test]
async fn a_backend_that_keeps_no_order_by_key_says_who_does() {
    let mut capability = Capability::inline("queue");
    (capability.groups, capability.dead_letters) = (true, true);
    let bus = Bus::over(Arc::new(Queue(capability)));
    let on = bus.on("a").group("g").ordered_by_key();
    let error = on.run(async |_: Event| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "subscribe: queue keeps no order by key");
    assert!(error.advice().unwrap().contains("memory"), "{:?}", error.advice());
}

#[railbus::test]
async fn a_key_without_text_is_no_key() {
    let bus = Bus::new();
    for key in ["", "a\0b", &"x".repeat(1025)] {
        let error = bus.publish(Event::new("a").key(key)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{error}");
    }
    bus.publish(Event::new("a").key("☃ 'quoted' \"twice\"")).await.unwrap();
}
