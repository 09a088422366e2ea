//! Named producers and consumers beside a bus: from a map, from the environment, and to their end.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Consumer, ErrorKind, Event, State, Value, json, testing::Recorder};
use std::path::Path;

fn place(folder: &Path, name: &str) -> String {
    format!("sqlite:{}", folder.join(name).display())
}

#[railbus::test]
async fn producers_and_consumers_have_backends_of_their_own_and_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, jobs) = (place(folder.path(), "audit.db"), place(folder.path(), "jobs.db"));
    let config = json!({
        "bus": { "kind": "memory" },
        "producers": { "audit": audit, "jobs": { "url": jobs } },
        "consumers": {
            "jobs": { "url": jobs, "group": "workers", "max_workers": 2 },
            "watch": format!("{audit}?group=watchers"),
        },
    });
    let bus = Bus::from_config(&config).await.unwrap();
    assert_eq!(bus.producers().collect::<Vec<_>>(), ["audit", "jobs"]);
    assert_eq!(bus.consumers().collect::<Vec<_>>(), ["jobs", "watch"]);
    let (done, watched) = (Recorder::new(), Recorder::new());
    // What a consumer handles may need a producer of the same bus, until it is through.
    let jobs = bus.consumer("jobs").unwrap();
    assert_eq!(jobs.group(), "workers");
    let told = jobs.bus().clone().state(bus.producer("audit").unwrap());
    let work = async |job: Event, audit: State<railbus::Producer>| {
        audit.publish(Event::new("job.done").payload(job.id().to_owned())).await
    };
    jobs.on("job.added").run(work).await.unwrap();
    jobs.on("*").run(done.clone()).await.unwrap();
    bus.consumer("watch").unwrap().on("job.done").run(watched.clone()).await.unwrap();
    bus.start().await.unwrap();
    bus.start().await.unwrap();
    for _ in 0..3 {
        bus.producer("jobs").unwrap().publish(Event::new("job.added")).await.unwrap();
    }
    watched.wait_for(3).await;
    assert_eq!(done.len(), 3);
    drop(told);
    bus.close().await.unwrap();
    bus.close().await.unwrap();
    for consumer in ["jobs", "watch"] {
        let late = bus.consumer(consumer).unwrap().start().await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Closed);
    }
    let late = bus.producer("audit").unwrap().publish(("x", 1)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
}

#[railbus::test]
async fn what_runs_in_a_consumer_is_finished_before_the_producers_close() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, jobs) = (place(folder.path(), "audit.db"), place(folder.path(), "jobs.db"));
    let config = json!({
        "producers": { "audit": audit, "jobs": jobs },
        "consumers": { "jobs": format!("{jobs}?group=workers") },
    });
    let bus = Bus::from_config(&config).await.unwrap();
    let (began, go) = (Recorder::new(), std::sync::Arc::new(tokio::sync::Notify::new()));
    let consumer = bus.consumer("jobs").unwrap();
    let (seen, wait, to) = (began.clone(), go.clone(), bus.producer("audit").unwrap());
    let slow = async move |job: Event| {
        railbus::SyncHandler::handle(&seen, &job)?;
        wait.notified().await;
        to.publish(("late", 1)).await.map_err(railbus::BoxError::from)
    };
    consumer.on("job").run(slow).await.unwrap();
    bus.start().await.unwrap();
    bus.producer("jobs").unwrap().publish(("job", 1)).await.unwrap();
    began.wait_for(1).await;
    let closing = bus.close();
    let (closed, ()) = tokio::join!(closing, async { go.notify_one() });
    closed.unwrap();
    assert_eq!(consumer.bus().counters().succeeded.get(), 1);
    let after = Consumer::open(format!("{audit}?group=after")).await.unwrap();
    let found = Recorder::new();
    after.on("late").run(found.clone()).await.unwrap();
    after.start().await.unwrap();
    found.wait_for(1).await;
}

#[railbus::test]
async fn the_environment_names_them_as_a_map_does() {
    let folder = tempfile::tempdir().unwrap();
    let (own, jobs) = (place(folder.path(), "own.db"), place(folder.path(), "jobs.db"));
    let variables = [
        ("RAILBUS_URL", own.as_str()),
        ("RAILBUS_BUS__RETENTION", "48h"),
        ("RAILBUS_PRODUCERS__TO_JOBS__URL", &jobs),
        ("RAILBUS_CONSUMERS__JOBS__URL", &jobs),
        ("RAILBUS_CONSUMERS__JOBS__GROUP", "workers"),
        ("RAILBUS_CONSUMERS__JOBS__BATCH_SIZE", "7"),
        ("RAILBUS_TOKEN", "somebody's own"),
    ];
    let bus = Bus::from_variables(variables).await.unwrap();
    assert_eq!(bus.capability().name, "sqlite");
    assert_eq!(bus.producers().collect::<Vec<_>>(), ["to_jobs"]);
    assert_eq!(bus.consumer("jobs").unwrap().group(), "workers");
    bus.close().await.unwrap();
    let alone = Bus::from_variables(variables.into_iter().skip(2)).await.unwrap();
    assert_eq!(alone.capability().name, "memory");
    let none = Bus::from_variables([("RAILBUS_TOKEN", "x")]).await.unwrap_err();
    assert!(none.to_string().contains("RAILBUS_URL is not set"), "{none}");
    for (name, hint) in [
        ("RAILBUS_CONSUMER__JOBS__URL", "did you mean RAILBUS_CONSUMERS__JOBS__URL?"),
        ("RAILBUS_CONSUMERS_JOBS__URL", "did you mean RAILBUS_CONSUMERS__JOBS__URL?"),
        ("RAILBUS_PRODUCERS__JOBS", "write NAME__KEY behind it"),
        ("RAILBUS_PRODUCERS____URL", "write NAME__KEY behind it"),
    ] {
        let refused = Bus::from_variables([(name, jobs.as_str())]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{name}");
        assert!(
            refused.to_string().contains(name) && refused.advice().unwrap().contains(hint),
            "{refused:?}"
        );
    }
    let twice =
        [("RAILBUS_CONSUMERS__A__URL", "memory:"), ("RAILBUS_CONSUMERS__a__URL", "memory:")];
    let refused = Bus::from_variables(twice).await.unwrap_err();
    assert!(refused.to_string().contains("is given twice"), "{refused}");
}

#[railbus::test]
async fn a_name_that_is_not_there_lists_those_that_are() {
    let config = json!({ "consumers": {
        "orders": "memory:?group=g", "returns": { "kind": "memory", "group": "g" } } });
    let bus = Bus::from_config(&config).await.unwrap();
    let unknown = bus.consumer("order").unwrap_err();
    assert_eq!(
        (unknown.kind(), unknown.to_string()),
        (ErrorKind::NotFound, "consumer: there is no consumer `order`".into())
    );
    assert_eq!(unknown.advice(), Some("did you mean `orders`? Known: orders, returns"));
    assert_eq!(bus.consumer("x").unwrap_err().advice(), Some("known: orders, returns"));
    assert_eq!(bus.producer("orders").unwrap_err().advice(), Some("none is configured"));
    // Nothing to fetch for yet, and the error says where.
    let idle = bus.start().await.unwrap_err();
    assert!(format!("{idle}{idle:?}").contains("orders"), "{idle:?}");
    assert_eq!(Bus::new().start().await.unwrap_err().kind(), ErrorKind::Config);
}

#[railbus::test]
async fn what_is_wrong_with_a_configuration_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(Value, &str, &str); 8] = [
        (json!([]), "a configuration is a map", ""),
        (json!({}), "the configuration is empty", "add `bus`"),
        (json!({ "producer": {} }), "`producer` is none of", "did you mean `producers`?"),
        (json!({ "producers": [] }), "`producers` is a map of names", ""),
        (json!({ "producers": { "": "memory:" } }), "a producer has an empty name", ""),
        (json!({ "producers": { "a": 7 } }), "a place is a URL or a map", ""),
        (json!({ "consumers": { "a": "memory:" } }), "a consumer has a group", "group=NAME"),
        (json!({ "consumers": { "a": { "kind": "memory", "gruop": "g" } } }), "`gruop`", "`group`"),
    ];
    for (config, why, hint) in cases {
        let refused = Bus::from_config(&config).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{config}");
        assert!(refused.to_string().contains(why), "{config}: {refused}");
        assert!(refused.advice().unwrap_or_default().contains(hint), "{config}: {refused:?}");
    }
    // What was opened before the mistake is closed again, and its secrets are not told.
    let file = place(folder.path(), "a.db");
    let config = json!({
        "producers": { "a": file, "b": "redis-streams://u:hunter2@localhost:1?nope=1" } });
    let refused = Bus::from_config(&config).await.unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
}
