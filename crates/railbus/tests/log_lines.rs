//! Log lines: each says which event it was written for. Alone in its process: a thread without a
//! subscriber that comes to a line first would switch it off for all.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Event, Failure, Pipeline, Retry, StepDef,
    context::{self, scope},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};
use tokio::task::yield_now;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer, prelude::*, registry::LookupSpan};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What a line or a span says, by field.
#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

/// Keeps the lines, each with the fields of the spans around it; what is nearer wins.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Fields>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, of: &span::Attributes<'_>, id: &span::Id, all: layer::Context<'_, S>) {
        let mut fields = Fields::default();
        of.record(&mut fields);
        all.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_event(&self, line: &tracing::Event<'_>, all: layer::Context<'_, S>) {
        let mut fields = Fields::default();
        for around in all.event_scope(line).into_iter().flat_map(|scope| scope.from_root()) {
            fields.0.extend(around.extensions().get::<Fields>().unwrap().0.clone());
        }
        line.record(&mut fields);
        self.0.lock().unwrap().push(fields);
    }
}

impl Lines {
    /// Asserts that there are `count` lines that say `message`, all written for this event.
    fn assert(&self, message: &str, count: usize, event: &Event) {
        let lines = self.0.lock().unwrap();
        let of = |line: &&Fields| line.0.get("message").is_some_and(|said| said == message);
        let lines: Vec<_> = lines.iter().filter(of).collect();
        assert_eq!(lines.len(), count, "{message}");
        for line in lines {
            let says = |field| line.0.get(field).map(String::as_str);
            assert_eq!(says("event_id"), Some(event.id()), "{line:?}");
            assert_eq!(says("event_type"), Some(event.event_type()), "{line:?}");
            assert_eq!(says("correlation_id"), Some(event.correlation_id()), "{line:?}");
            assert_eq!(says("trace_id"), Some(&TRACE[3..35]), "{line:?}");
        }
    }
}

#[railbus::test]
async fn every_log_line_of_a_handler_and_about_one_says_for_which_event() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("events.db").display());
    for url in ["memory:", &file] {
        let bus = Bus::open(url).await.unwrap();
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        let _default = tracing::subscriber::set_default(subscriber);
        subscribe(&bus).await;
        let event = Event::new("a").correlation("c").metadata("traceparent", TRACE).payload(());
        let outer = scope("outer").run(async {
            tracing::info!("outside");
            bus.publish(&event).await.unwrap();
        });
        outer.await;
        bus.idle().await.unwrap();
        bus.close().await.unwrap();
        for said in ["sync", "before", "after", "joined", "spawned"] {
            lines.assert(said, 2, &event);
        }
        lines.assert("inner", 2, &Event::new("inner").id("i").correlation("c").payload(()));
        lines.assert("a handler failed", 2, &event);
        // Also of a step whose failure a branch sees to.
        lines.assert("a step did not succeed", 2, &event);
    }
}

/// Subscribes handlers that log, for broadcasts and in a group, and one that fails.
async fn subscribe(bus: &Bus) {
    for group in [None, Some("g")] {
        let on = || match group {
            Some(group) => bus.on("a").group(group),
            None => bus.on("a"),
        };
        on().run(|_: &Event| tracing::info!("sync")).await.unwrap();
        let talks = async |_: Event| {
            tracing::info!("before");
            yield_now().await;
            tracing::info!("after");
            let inner = scope("inner").id("i").run(async {
                yield_now().await;
                tracing::info!("inner");
            });
            tokio::join!(inner, async { tracing::info!("joined") });
            context::spawn(async { tracing::info!("spawned") }).await.unwrap();
        };
        on().run(talks).await.unwrap();
        let no = StepDef::fallible("no", |_| Err(Failure::new("no").into()));
        let line = Pipeline::new("p").step(no).on_failure(StepDef::value("yes", |_| ()));
        on().run(line.build().unwrap()).await.unwrap();
        on().retry(Retry::attempts(1)).run(|_: &Event| Err::<(), _>("no")).await.unwrap();
    }
}

#[railbus::test]
async fn logging_tells_of_each_try_how_it_ended_and_of_no_payload_unless_it_is_asked_to() {
    for told in [false, true] {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        let _default = tracing::subscriber::set_default(subscriber);
        let bus = Bus::open("memory:").await.unwrap();
        let twice = Retry::attempts(2).backoff(std::time::Duration::from_millis(1));
        let on = bus.on("pay").group("g").retry(twice);
        let on = on.layer(railbus::middlewares::Logging::new().payloads(told));
        let pay = |delivery: railbus::delivery::Delivery| match delivery.attempt() {
            1 => panic!("no card"),
            _ => railbus::done(),
        };
        on.run(pay).await.unwrap();
        let event = Event::new("pay").topic("shop").metadata("traceparent", TRACE);
        let event = event.payload("4711 1234");
        bus.publish(&event).await.unwrap();
        bus.idle().await.unwrap();
        lines.assert("handling", 2, &event);
        lines.assert("failed", 1, &event);
        lines.assert("handled", 1, &event);
        let lines = lines.0.lock().unwrap();
        let of =
            |said: &str| lines.iter().find(|line| line.0["message"] == said).unwrap().0.clone();
        let (failed, handled) = (of("failed"), of("handled"));
        assert!(failed["error"].contains("no card"), "{failed:?}");
        assert_eq!(
            (&*failed["attempt"], &*handled["attempt"], &*handled["topic"]),
            ("1", "2", "shop")
        );
        assert!(handled["seconds"].parse::<f64>().unwrap() >= 0.0);
        let payloads = lines.iter().filter(|line| format!("{line:?}").contains("4711"));
        assert_eq!(payloads.count(), if told { 2 } else { 0 });
    }
}
