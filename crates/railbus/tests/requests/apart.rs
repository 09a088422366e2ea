//! Where there can be no replies, and whose a reply is.

use super::LONG;
use railbus::{
    Bus, Error, ErrorKind, Event, Result,
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
};
use std::{sync::Arc, time::Duration};

/// Carries nothing but topics and payloads.
#[derive(Debug)]
struct Bare;

#[async_trait::async_trait]
impl Backend for Bare {
    fn capability(&self) -> &Capability {
        &railbus::backends::memory::CAPABILITY
    }

    fn is_bare(&self) -> bool {
        true
    }

    async fn publish(&self, _: &[Outgoing]) -> Vec<Result<()>> {
        unreachable!("what can't be answered is not asked")
    }

    async fn subscribe(&self, _: Subscribe) -> Result<Arc<dyn Source>> {
        unreachable!("what can't be heard is not listened to")
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> Result<()> {
        Ok(())
    }
}

#[railbus::test]
async fn where_events_leave_their_ids_behind_there_are_no_replies_and_no_registries() {
    let bus = Bus::over(Arc::new(Bare));
    let load = async |id: String| Ok::<_, Error>(id);
    let refused = [
        bus.request(Event::new("ask"), LONG).await.unwrap_err(),
        railbus::CachedRegistry::new(load).open(&bus).await.err().unwrap(),
    ];
    for refused in refused {
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        assert!(refused.advice().unwrap().contains("format=cloudevents"), "{refused}");
    }
}

#[railbus::test]
async fn a_second_request_with_one_event_is_not_let_go_by_the_end_of_the_first() {
    let bus = Bus::new();
    let (says, mut said) = tokio::sync::mpsc::unbounded_channel();
    bus.on("ask")
        .run(move |event: &Event| {
            let _ = says.send(event.clone());
        })
        .await
        .unwrap();
    let ask = Event::new("ask").payload(1);
    let mut first = Box::pin(bus.request(&ask, LONG));
    assert!(futures_util::poll!(&mut first).is_pending());
    let answer = async |asked: Event, n: u32| {
        let to = asked.metadata()["replyto"].clone();
        let reply = Event::new("reply").topic(to).causation(asked.id()).payload(n);
        bus.publish(reply).await.unwrap();
    };
    answer(said.recv().await.unwrap(), 1).await;
    // The first has its reply, and is not polled.
    let mut second = Box::pin(bus.request(&ask, LONG));
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(first.await.unwrap().payload::<u32>().unwrap(), 1);
    answer(said.recv().await.unwrap(), 2).await;
    assert_eq!(second.await.unwrap().payload::<u32>().unwrap(), 2);
}
