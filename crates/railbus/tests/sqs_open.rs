//! Opening a queue: what can be set, and what is wrong is said at once.
#![cfg(feature = "sqs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sqs_served/queues.rs"]
mod sqs_served;

use railbus::{Bus, ErrorKind, Event, json, options::Options};
use sqs_served::{Queue, moto};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_the_documents_opens_the_same_queue() {
    let queue = Queue::new("keys");
    let keys = "&aws_access_key_id=testing&aws_secret_access_key=testing";
    let maps = [
        json!({"kind": "sqs", "queue_url": queue.url, "region": "us-east-1", "aws_access_key_id": "t",
            "aws_secret_access_key": "t"}),
        json!({"backend": "sqs", "queue_url": queue.url, "region_name": "us-east-1", "max_messages": 10,
            "wait_time_seconds": 20, "visibility_timeout": 300, "aws_access_key_id": "t",
            "aws_secret_access_key": "t", "dlq_url": "https://sqs.us-east-1.amazonaws.com/1/dead"}),
        json!({"url": format!("{}&wait_time=20s&visibility_timeout=5m&max_number_of_messages=1", moto().url(&queue.name))}),
        json!({"url": format!("sqs://us-east-1/123456789012/{}?endpoint=http://{}{keys}", queue.name, moto().address())}),
        json!({"url": format!("sqs://sqs.us-east-1.amazonaws.com/123456789012/{}?endpoint_url=http://{}{keys}", queue.name, moto().address())}),
        json!({"url": format!("sqs://{}/123456789012/{}?region=eu-west-1&region_name=eu-west-1&endpoint=http://{}{keys}", moto().address(), queue.name, moto().address())}),
    ];
    for (n, map) in maps.iter().enumerate() {
        let options = Options::from_map(map.as_object().unwrap()).unwrap();
        let bus = Bus::open(options).await;
        // Another region has other queues.
        if n == 5 {
            assert_eq!(bus.unwrap_err().kind(), ErrorKind::NotFound);
            continue;
        }
        let bus = bus.unwrap();
        bus.publish(Event::new("order.placed").payload(n)).await.unwrap();
        bus.ping().await.unwrap();
        bus.close().await.unwrap();
    }
    assert_eq!(queue.counts(), [5, 0, 0]);
}

#[tokio::test]
async fn unknown_keys_and_wrong_values_are_refused_with_advice() {
    let whole = "sqs://us-east-1/123456789012/events";
    for (url, said) in [
        (format!("{whole}?queue_ur=a"), "queue_ur"),
        (format!("{whole}?max_messages=0"), "max_messages"),
        (format!("{whole}?max_messages=11"), "max_messages"),
        (format!("{whole}?max_messages=2&max_number_of_messages=3"), "contradict"),
        (format!("{whole}?wait_time_seconds=21"), "wait_time_seconds"),
        (format!("{whole}?wait_time=1500ms"), "wait_time"),
        (format!("{whole}?visibility_timeout=43201"), "visibility_timeout"),
        (format!("{whole}?visibility_timeout=-1"), "visibility_timeout"),
        (format!("{whole}?region=eu-west-1"), "region_name"),
        (format!("{whole}?queue_url=https://h/1/a"), "queue_url"),
        (format!("{whole}?endpoint_url=localhost:1"), "endpoint_url"),
        (format!("{whole}?dlq_url=dead"), "dlq_url"),
        (format!("{whole}?dlq_url=https://h/1/dead.fifo"), "dlq_url"),
        (format!("{whole}?dlq_url=https://h/1/d-{{group}}"), "dlq_url"),
        (format!("{whole}?groups=a"), "groups"),
        (format!("{whole}?message_attributes=AWS.a"), "message_attributes"),
        (format!("{whole}?message_attributes=a,b,c,d,e,f,g,h"), "message_attributes"),
        (format!("{whole}?aws_access_key_id=a"), "aws_access_key_id"),
        (format!("{whole}?format=xml"), "format"),
        ("sqs:".into(), "queue_url"),
        ("sqs://us-east-1/events".into(), "queue_url"),
        ("sqs:?queue_url=events".into(), "queue_url"),
    ] {
        let error = Bus::open(&*url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
        let told = format!("{error} {}", error.advice().unwrap_or_default());
        assert!(told.contains(said), "{url}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_is_told_and_made_if_it_may_be() {
    let queue = Queue { name: "made-here".into(), url: moto().queue_url("made-here") };
    let error = Bus::open(&*queue.bus("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("made-here"), "{error}");
    let bus = Bus::open(&*queue.bus("&create=true")).await.unwrap();
    bus.publish(Event::new("a").payload(1)).await.unwrap();
    assert_eq!(queue.counts(), [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_where_nobody_is_is_told_soon() {
    let began = Instant::now();
    let url =
        "sqs://127.0.0.1:9/1/events?region=us-east-1&aws_access_key_id=t&aws_secret_access_key=t";
    let error = Bus::open(url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // Bounded, so that a loop of tries is noticed; no measure of speed.
    assert!(began.elapsed() < Duration::from_secs(30));
    let encrypted = format!(
        "sqs:?queue_url=https://{}/1/events&region=us-east-1&aws_access_key_id=t&aws_secret_access_key=t",
        moto().address()
    );
    let error = Bus::open(&*encrypted).await.unwrap_err();
    assert!([ErrorKind::Denied, ErrorKind::Unavailable].contains(&error.kind()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_one_group_and_a_second_one_is_refused() {
    let bus = Bus::open(&*Queue::new("one-group").bus("")).await.unwrap();
    let first = bus.on("a").group("billing").run(|_: &Event| {}).await.unwrap();
    bus.on("b").group("billing").run(|_: &Event| {}).await.unwrap();
    let error = bus.on("a").group("mail").run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().unwrap().contains("{group}"), "{error:?}");
    drop(first);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_group_has_a_queue_of_its_own_where_the_url_says_so() {
    let all = Queue { name: "each-{group}".into(), url: String::new() };
    let bus = Bus::open(&*all.bus("")).await.unwrap();
    let error = bus.on("a").group("billing").run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.advice().unwrap().contains("create"), "{error:?}");
    bus.close().await.unwrap();
    let bus = Bus::open(&*all.bus("&create=true")).await.unwrap();
    for (group, of) in [("billing", "order.*"), ("mail", "user.*")] {
        let on = bus.on(of).group(group);
        on.run(async |_: Event| std::future::pending::<()>().await).await.unwrap();
    }
    // Another program, which was told of no group.
    for (name, url) in
        [("billing", moto().queue_url("each-billing")), ("mail", moto().queue_url("each-mail"))]
    {
        let tags = sqs_served::ask("ListQueueTags", &json!({ "QueueUrl": url }));
        let tags = tags["Tags"].as_object().unwrap();
        assert!(
            tags.keys().all(|key| key.starts_with("railbus-interest-")) && tags.len() == 1,
            "{name} {tags:?}"
        );
    }
    bus.publish(Event::new("order.placed").payload(1)).await.unwrap();
    let groups = bus.keeper().unwrap().groups().await.unwrap();
    let lags: Vec<_> = groups.iter().map(|group| (&*group.name, group.lag)).collect();
    assert_eq!(lags, [("billing", 1), ("mail", 0)]);
    bus.close_within(Duration::from_millis(100)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_another_program_began_gets_what_is_published_next() {
    let all = Queue { name: "found-{group}".into(), url: String::new() };
    let bus = Bus::open(&*all.bus("&groups_every=0s")).await.unwrap();
    bus.publish(Event::new("a").payload(1)).await.unwrap();
    // Made by hand, without tags: it gets everything.
    sqs_served::ask("CreateQueue", &json!({ "QueueName": "found-by_20hand" }));
    let queue = Queue { name: String::new(), url: moto().queue_url("found-by_20hand") };
    bus.publish(Event::new("a").payload(2)).await.unwrap();
    assert_eq!(queue.counts(), [1, 0, 0]);
    let groups = bus.keeper().unwrap().groups().await.unwrap();
    assert_eq!(groups.iter().map(|group| &*group.name).collect::<Vec<_>>(), ["by hand"]);
    bus.keeper().unwrap().prune("by hand").await.unwrap();
    bus.publish(Event::new("a").payload(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_queue_for_dead_letters_none_are_promised() {
    let bus = Bus::open(&*Queue::bare("no-dead").bus("")).await.unwrap();
    assert!(!bus.capability().dead_letters);
    let then = railbus::delivery::Then::DeadLetter;
    let error = bus.on("a").group("g").then(then).run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    bus.close().await.unwrap();
}
