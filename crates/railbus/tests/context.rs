//! What caused what: scopes, deliveries, tasks and threads.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use async_trait::async_trait;
use railbus::{
    Bus, Context, Event, Pipeline, StepDef, StepResult, Store,
    context::{self, scope},
    executor::{Executor, Task},
};
use std::{sync::Arc, thread};
use tokio::{sync::mpsc, task::yield_now};

/// Opens a bus in memory and one on a file, with what keeps its file.
async fn buses() -> Vec<(Bus, tempfile::TempDir)> {
    let mut buses = Vec::new();
    for scheme in ["memory:", "sqlite:"] {
        let folder = tempfile::tempdir().unwrap();
        let url = match scheme {
            "sqlite:" => format!("sqlite:{}", folder.path().join("events.db").display()),
            memory => memory.to_owned(),
        };
        buses.push((Bus::open(&url).await.unwrap(), folder));
    }
    buses
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn here() -> Option<String> {
    context::current().map(|context| context.event_type().to_owned())
}

#[railbus::test]
async fn scopes_nest_and_inherit_and_end() {
    assert!(here().is_none());
    let outer = scope("outer").id("1").correlation_id("c").metadata("tenant", "north").data(7);
    let inner = async {
        let outer = context::current().unwrap();
        assert_eq!((outer.id(), outer.correlation_id(), outer.causation_id()), ("1", "c", None));
        assert_eq!(outer.data().get::<i32>().unwrap(), 7);
        scope("inner")
            .metadata("user", "u")
            .run(async {
                yield_now().await;
                let inner = context::current().unwrap();
                assert_eq!((inner.correlation_id(), inner.causation_id()), ("c", Some("1")));
                let metadata: Vec<_> = inner.metadata().keys().map(String::as_str).collect();
                assert_eq!(metadata, ["tenant", "user"]);
                let parent = inner.parent().unwrap();
                assert_eq!((parent.id(), parent.event_type()), ("1", "outer"));
                assert!(parent.parent().is_none());
            })
            .await;
        let root = scope("root").parent(None).run_sync(|| context::current().unwrap());
        assert!(root.parent().is_none() && root.metadata().is_empty());
        assert_eq!(root.correlation_id(), root.id());
        assert_eq!(here().unwrap(), "outer", "it is as it was");
    };
    outer.run(inner).await;
    assert!(here().is_none());
}

#[railbus::test]
async fn joined_futures_share_a_scope_and_do_not_see_each_others() {
    let look = async || {
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(here().unwrap());
            yield_now().await;
        }
        seen
    };
    let one = scope("one").run(async { tokio::join!(look(), scope("in one").run(look())) });
    let two = scope("two").run(look());
    let (((joined, within), two), ()) = tokio::join!(async { tokio::join!(one, two) }, async {
        for _ in 0..3 {
            assert!(here().is_none());
            yield_now().await;
        }
    });
    assert_eq!((joined, within), (vec!["one".to_owned(); 3], vec!["in one".to_owned(); 3]));
    assert_eq!(two, ["two", "two", "two"]);
}

#[railbus::test(flavor = "multi_thread")]
async fn a_spawned_task_goes_on_in_the_context_and_a_plain_one_does_not() {
    let (spawned, plain) = scope("work")
        .run(async {
            (
                context::spawn(async { (here(), yield_now().await, here()) }),
                tokio::spawn(async { here() }),
            )
        })
        .await;
    let work = Some("work".to_owned());
    assert_eq!(spawned.await.unwrap(), (work.clone(), (), work));
    assert_eq!(plain.await.unwrap(), None);
    assert_eq!(context::spawn(async { here() }).await.unwrap(), None, "outside it is a plain task");
}

/// Runs steps on a thread of its own.
#[derive(Debug)]
struct OnThread;

#[async_trait]
impl Executor for OnThread {
    async fn execute(&self, task: Task) -> StepResult {
        let (tell, told) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = tell.send(runtime.block_on(task.run()));
        });
        told.await.unwrap()
    }
}

#[railbus::test]
async fn steps_see_the_context_wherever_they_run() {
    let see = |name: &str| StepDef::value(name, |_| here().unwrap_or_default());
    let pipeline = Pipeline::new("p")
        .step(see("inline"))
        .step(see("blocking").blocking())
        .step(see("thread").executor(OnThread))
        .build()
        .unwrap();
    let report = scope("run").run(pipeline.run(Store::new())).await;
    for step in ["inline", "blocking", "thread"] {
        assert_eq!(*report.store().get::<String>(step).unwrap(), "run", "{step}");
    }
}

type Seen = (&'static str, Context, Option<Context>);

#[railbus::test]
async fn handlers_see_their_event_and_what_they_publish_names_its_cause() {
    for (bus, _folder) in buses().await {
        let (tells, mut told) = mpsc::unbounded_channel::<Seen>();
        let tell = |who: &'static str| {
            let tells = tells.clone();
            move |argument: Option<Context>| {
                tells.send((who, context::current().unwrap(), argument)).unwrap();
            }
        };
        for group in [None, Some("g")] {
            let on = |of: &str| match group {
                Some(group) => bus.on(of).group(group),
                None => bus.on(of),
            };
            let (sync, asynchronous, last) = (tell("sync"), tell("async"), tell("last"));
            on("a").run(move |context: Context| sync(Some(context))).await.unwrap();
            let go_on = async move |e: Event, bus: Bus, context: Context| {
                yield_now().await;
                asynchronous(Some(context));
                let next = || Event::new("b").payload(());
                bus.publish(next()).await.unwrap();
                bus.publish_all(&[next().into()]).await.remove(0).unwrap();
                let spawned = bus.clone();
                context::spawn(async move { spawned.publish(next()).await.unwrap() })
                    .await
                    .unwrap();
                let named = next();
                let own = Event::new("b").correlation("own").causation("x").payload(());
                bus.publish(own).await.unwrap();
                assert_eq!((named.causation_id(), e.causation_id()), (None, Some("s")));
            };
            on("a").run(go_on).await.unwrap();
            on("b").run(move |_: &Event| last(None)).await.unwrap();
        }
        let root = scope("request").id("s").correlation_id("c");
        let root = root.metadata("traceparent", TRACE).metadata("tenant", "north");
        let sent = Event::new("a").id("first").metadata("own", "1").payload(());
        root.run(async { bus.publish(sent).await.unwrap() }).await;
        bus.idle().await.unwrap();
        bus.close().await.unwrap();
        drop(bus);
        drop(tells);
        let mut seen = Vec::new();
        while let Ok(one) = told.try_recv() {
            seen.push(one);
        }
        let of = |who: &str| seen.iter().filter(|(name, ..)| *name == who).collect::<Vec<_>>();
        for (who, context, argument) in of("sync").into_iter().chain(of("async")) {
            assert_eq!((context.id(), context.event_type()), ("first", "a"), "{who}");
            assert_eq!((context.correlation_id(), context.causation_id()), ("c", Some("s")));
            let keys: Vec<_> = context.metadata().keys().map(String::as_str).collect();
            assert_eq!(keys, ["own", "tenant", "traceparent"], "{who}");
            assert_eq!(argument.as_ref().unwrap().id(), "first");
        }
        assert_eq!((of("sync").len(), of("async").len()), (2, 2));
        // Twice four were published, for a broadcast and a group each.
        let last = of("last");
        assert_eq!(last.len(), 16);
        let own = |c: &Context| (c.correlation_id(), c.causation_id()) == ("own", Some("x"));
        assert_eq!(last.iter().filter(|(_, c, _)| own(c)).count(), 4);
        for (_, context, _) in last.iter().filter(|(_, c, _)| !own(c)) {
            assert_eq!((context.correlation_id(), context.causation_id()), ("c", Some("first")));
            assert_eq!(context.metadata().get("traceparent").unwrap(), TRACE);
            assert!(
                !context.metadata().contains_key("tenant"),
                "only traces go on from deliveries"
            );
        }
    }
}

#[test]
fn what_is_emitted_names_its_cause_and_a_delivery_within_a_delivery_its_parent() {
    let bus = Bus::new();
    let seen: Arc<std::sync::Mutex<Vec<Context>>> = Arc::default();
    let see = Arc::clone(&seen);
    bus.on("b").run(move |context: Context| see.lock().unwrap().push(context)).now().unwrap();
    bus.on("a").run(|bus: Bus| bus.emit(Event::new("b")).map(drop)).now().unwrap();
    bus.emit(Event::new("a").id("1")).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!((seen[0].causation_id(), seen[0].correlation_id()), (Some("1"), "1"));
    assert_eq!(seen[0].parent().unwrap().id(), "1");
    assert!(here().is_none());
}
