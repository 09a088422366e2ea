//! Requests: events that wait for a reply, whoever gives it, and for no longer than they may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "everywhere/faulty.rs"]
mod faulty;
#[path = "everywhere/places.rs"]
mod places;
#[path = "requests/apart.rs"]
mod apart;

use faulty::Faulty;
use railbus::{
    Bus, Consumer, Context, Error, ErrorKind, Event, Payload, Reply, Result, Retry, any,
    backend::{Backend, Broadcast, Capability, Outgoing, Source, Subscribe},
    context,
    delivery::{Delivery, Outcome},
    json,
    middlewares::Timeout,
    testing::Recorder,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

const LONG: Duration = Duration::from_secs(30);
/// For what never comes.
const SHORT: Duration = Duration::from_millis(1);

#[railbus::test]
async fn a_request_gets_the_value_that_the_handler_returns() {
    for place in places::all() {
        let bus = Bus::open(&place.url).await.unwrap();
        bus.on("sync").run(|n: Payload<u32>| Reply::of(*n + 1)).await.unwrap();
        bus.on("borrowed").run(|event: &Event| Reply::of(event.id().len())).await.unwrap();
        bus.on("async").run(async |n: Payload<u32>| Reply::of(json!({ "n": *n }))).await.unwrap();
        let fallible = async |text: Payload<String>| Ok::<_, Error>(Reply::of(text.len()));
        bus.on("fallible").run(fallible).await.unwrap();

        let reply = bus.request(Event::new("sync").payload(41), LONG).await.unwrap();
        assert_eq!((reply.event_type(), reply.payload::<u32>().unwrap()), ("reply", 42));
        let reply = bus.request(Event::new("borrowed").id("e-1"), LONG).await.unwrap();
        assert_eq!(reply.payload::<usize>().unwrap(), 3);
        assert_eq!(bus.request(("async", 7), LONG).await.unwrap().get("n"), Some(7));
        let reply = bus.request(("fallible", "four"), LONG).await.unwrap();
        assert_eq!(reply.payload::<usize>().unwrap(), 4, "{}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_reply_belongs_to_the_conversation_of_its_request() {
    for place in places::all() {
        let bus = Bus::open(&place.url).await.unwrap();
        bus.on("ask").run(|| Reply::of(())).await.unwrap();
        let ask = Event::new("ask").id("e-1").correlation("c-1").metadata("tenant", "north");
        let reply = bus.request(ask, LONG).await.unwrap();
        assert_eq!((reply.correlation_id(), reply.causation_id()), ("c-1", Some("e-1")));
        assert!(reply.metadata().is_empty(), "what a request says is its own");
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn one_member_of_a_group_answers_on_another_bus() {
    for place in places::durable() {
        let bus = Bus::open(&place.url).await.unwrap();
        let mut members = Vec::new();
        for name in ["one", "two"] {
            let member = Consumer::open(&place.with("group=g")).await.unwrap();
            member.on("ask").run(move |_: &Event| Reply::of(name)).await.unwrap();
            member.start().await.unwrap();
            members.push(member);
        }
        for _ in 0..10 {
            let reply = bus.request(Event::new("ask"), LONG).await.unwrap();
            assert!(["one", "two"].contains(&&*reply.payload::<String>().unwrap()));
        }
        for member in &members {
            member.stop().await.unwrap();
        }
        let answered: u64 = members.iter().map(|m| m.bus().counters().succeeded.get()).sum();
        assert_eq!(answered, 10, "{}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn of_several_who_answer_a_broadcast_the_first_reply_counts() {
    for place in places::shared() {
        let bus = Bus::open(&place.url).await.unwrap();
        let mut others = Vec::new();
        for name in ["one", "two"] {
            let other = Bus::open(&place.url).await.unwrap();
            other.on("ask").run(move |_: &Event| Reply::of(name)).await.unwrap();
            others.push(other);
        }
        for _ in 0..10 {
            let reply = bus.request(Event::new("ask"), LONG).await.unwrap();
            assert!(["one", "two"].contains(&&*reply.payload::<String>().unwrap()));
        }
        for other in others {
            other.close().await.unwrap();
        }
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn many_requests_at_once_each_get_their_own_reply() {
    for place in places::all() {
        let bus = Bus::open(&place.url).await.unwrap();
        bus.on("double").run(|n: Payload<u32>| Reply::of(*n * 2)).await.unwrap();
        let ask = |n: u32| {
            let bus = bus.clone();
            tokio::spawn(async move { bus.request(("double", n), LONG).await })
        };
        for (n, asking) in (0..200).map(|n| (n, ask(n))).collect::<Vec<_>>() {
            assert_eq!(asking.await.unwrap().unwrap().payload::<u32>().unwrap(), n * 2);
        }
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_handler_may_ask_and_its_reply_may_depend_on_the_answer() {
    for place in places::all() {
        let bus = Bus::open(&place.url).await.unwrap();
        bus.on("inner").run(|n: Payload<u32>| Reply::of(*n + 1)).await.unwrap();
        let outer = async |n: Payload<u32>, bus: Bus, context: Context| {
            let inner = bus.request(("inner", *n), LONG).await?;
            assert_eq!(inner.correlation_id(), context.correlation_id());
            Ok::<_, Error>(Reply::of(inner.payload::<u32>()? * 10))
        };
        bus.on("outer").run(outer).await.unwrap();
        let reply = bus.request(("outer", 1), LONG).await.unwrap();
        assert_eq!(reply.payload::<u32>().unwrap(), 20, "{}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_failure_is_told_at_once_after_the_last_try_and_not_before() {
    for place in places::durable() {
        let bus = Bus::open(&place.url).await.unwrap();
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        let fail = async move |_: Event| {
            count.fetch_add(1, SeqCst);
            Err::<Reply, _>("there is no such item")
        };
        let twice = Retry::attempts(2).backoff_factor(Duration::from_millis(1));
        bus.on("ask").group("g").retry(twice.clone()).run(fail).await.unwrap();
        let error = bus.request(Event::new("ask"), LONG).await.unwrap_err();
        assert_eq!((error.kind(), calls.load(SeqCst)), (ErrorKind::Handler, 2), "{}", place.url);
        assert!(error.to_string().contains("there is no such item"), "{error}");

        // A try that succeeds in the end answers.
        let flaky = async move |delivery: Delivery| match delivery.attempt() {
            1 => Err("busy"),
            attempt => Ok(Reply::of(attempt)),
        };
        bus.on("flaky").group("h").retry(twice).run(flaky).await.unwrap();
        let reply = bus.request(Event::new("flaky"), LONG).await.unwrap();
        assert_eq!(reply.payload::<u32>().unwrap(), 2);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn whatever_way_a_handler_fails_who_asked_is_told() {
    for place in places::all() {
        let bus = Bus::open(&place.url).await.unwrap();
        bus.on("panics").run(|_: &Event| -> Reply { panic!("out of paper") }).await.unwrap();
        bus.on("panics.later")
            .run(async |_: Event| -> Reply { panic!("out of ink") })
            .await
            .unwrap();
        bus.on("undecodable").run(|n: Payload<u32>| Reply::of(*n)).await.unwrap();
        let never = async |_: Event| std::future::pending::<Reply>().await;
        bus.on("late").layer(Timeout::new(SHORT)).run(never).await.unwrap();
        for (event_type, why) in [
            ("panics", "out of paper"),
            ("panics.later", "out of ink"),
            ("undecodable", "text"),
            ("late", "took longer than 1ms"),
        ] {
            let error = bus.request((event_type, "text"), LONG).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Handler, "{error}");
            assert!(error.to_string().contains(why), "{error}");
            assert!(error.to_string().contains(event_type), "{error}");
        }
        bus.idle().await.unwrap();
        assert_eq!(bus.counters().failed.get(), 4, "{}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_request_that_nobody_answers_ends_in_time_and_leaves_nothing_behind() {
    for place in places::all() {
        let bus = Bus::open(&place.url).await.unwrap();
        let seen = Recorder::new();
        bus.on("ask").run(seen.clone()).await.unwrap();
        for n in 1..=20 {
            let error = bus.request(("ask", n), SHORT).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.is_retryable() && error.to_string().contains("1ms"), "{error}");
        }
        // As long as it takes to be heard, on whatever server.
        let asking = bus.clone();
        let asking = tokio::spawn(async move { asking.request(("ask", 21), LONG).await });
        seen.wait_for(1).await;
        asking.abort();
        assert!(asking.await.is_err());
        // One that stops waiting leaves as little.
        let asking = bus.request(("ask", 0), LONG);
        assert!(tokio::time::timeout(SHORT, asking).await.is_err());
        assert_eq!(bus.waiting_for_replies(), 0, "{}", place.url);

        // A reply that comes too late is nobody's.
        let late = seen.events().remove(0);
        assert!(bus.reply(&late, "late").await.unwrap());
        bus.idle().await.unwrap();
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn an_event_that_was_not_asked_gets_no_reply() {
    for place in places::all() {
        let bus = Bus::open(&place.url).await.unwrap();
        let seen = Recorder::new();
        bus.on(any()).run(seen.clone()).await.unwrap();
        bus.on("ask").run(|| Reply::of("nobody takes it")).await.unwrap();
        bus.publish(Event::new("ask")).await.unwrap();
        assert!(!bus.reply(&Event::new("ask").into(), 1).await.unwrap());
        bus.idle().await.unwrap();
        assert_eq!(seen.types(), ["ask"], "{}", place.url);
        assert_eq!(bus.counters().succeeded.get(), 2);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_task_may_answer_when_its_handler_has_returned() {
    for place in places::all() {
        let bus = Bus::open(&place.url).await.unwrap();
        let answer = async |event: Event, bus: Bus| {
            tokio::spawn(context::spawn(async move { bus.reply(&event, 7).await }));
        };
        bus.on("ask").run(answer).await.unwrap();
        let reply = bus.request(Event::new("ask"), LONG).await.unwrap();
        assert_eq!(reply.payload::<u32>().unwrap(), 7, "{}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn inside_a_process_it_is_known_that_nobody_can_answer() {
    let bus = Bus::new();
    let error = bus.request(Event::new("ask"), LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.advice().unwrap().contains("Reply"));
}

#[railbus::test]
async fn one_event_waits_for_one_reply_at_a_time() {
    let bus = Bus::new();
    bus.on("ask").run(|_: &Event| {}).await.unwrap();
    let event = Event::new("ask").payload(1);
    let (asking, same) = (bus.clone(), event.clone());
    let first = tokio::spawn(async move { asking.request(same, LONG).await });
    while bus.waiting_for_replies() == 0 {
        tokio::task::yield_now().await;
    }
    let error = bus.request(&event, LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{error}");
    first.abort();
    assert!(first.await.is_err());
    let again = bus.request(&event, SHORT).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Timeout);
}

#[railbus::test]
async fn a_bus_that_closes_lets_go_of_who_waits_for_replies() {
    for place in places::all() {
        let bus = Bus::open(&place.url).await.unwrap();
        bus.on("ask").run(|_: &Event| {}).await.unwrap();
        let asking = bus.clone();
        let asking = tokio::spawn(async move { asking.request(Event::new("ask"), LONG).await });
        while bus.waiting_for_replies() == 0 || bus.counters().published.get() == 0 {
            tokio::task::yield_now().await;
        }
        bus.close().await.unwrap();
        let error = asking.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{} {error}", place.url);
        let late = bus.request(Event::new("ask"), LONG).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Closed, "{late}");
    }
}

#[railbus::test]
async fn a_reply_that_can_not_be_published_is_the_handlers_failure() {
    let (faulty, faults) = Faulty::new();
    let (bus, other) = (Bus::over(faulty.connect()), Bus::over(faulty));
    let ask = async move |_: Event| {
        faults.publishes.store(1, SeqCst);
        Reply::of(1)
    };
    let twice = Retry::attempts(2).backoff_factor(SHORT);
    other.on("ask").group("g").retry(twice).run(ask.clone()).await.unwrap();
    // Each try fails, for want of a reply.
    let asked = bus.request(Event::new("ask"), Duration::from_millis(200)).await;
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::Timeout);
    other.idle().await.unwrap();
    assert_eq!(other.counters().dead_lettered.get(), 1);
}

#[railbus::test]
async fn a_handler_that_gives_an_event_up_by_outcome_is_told_too() {
    let bus = Bus::open("memory:").await.unwrap();
    let decide = |event: &Event| match event.payload::<u32>().unwrap() {
        0 => Outcome::DeadLetter("an order has lines".into()),
        n => Outcome::Replied(Reply::of(n)),
    };
    bus.on("plain").run(decide).await.unwrap();
    let answered = bus.request(("plain", 0), SHORT).await.unwrap_err();
    assert_eq!(answered.kind(), ErrorKind::Timeout, "{answered}");
}

/// A backend that has groups only.
#[derive(Debug)]
struct Queue;

const QUEUE: Capability = {
    let mut queue = Capability::inline("queue");
    queue.broadcast = Broadcast::None;
    queue
};

#[async_trait::async_trait]
impl Backend for Queue {
    fn capability(&self) -> &Capability {
        &QUEUE
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }

    async fn subscribe(&self, _: Subscribe) -> Result<Arc<dyn Source>> {
        unreachable!("what is not claimed is not asked for")
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> Result<()> {
        Ok(())
    }
}

#[railbus::test]
async fn where_there_is_no_broadcast_there_are_no_replies() {
    let bus = Bus::over(Arc::new(Queue));
    let refused = bus.request(Event::new("ask"), LONG).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(refused.advice().unwrap().contains("memory"));
}
