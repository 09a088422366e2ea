//! Answers that are errors: throttling, 500 for ever, what fails of a batch, and what is no SQS at all.
#![cfg(feature = "sqs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Options, Retry, Value,
    backend::{Order, Settle, Start, Subscribe, Verdict},
    backends, json,
    predicate::Interest,
};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};
use tokio::sync::mpsc;

/// What a service answers to an action, and how often it was asked before.
type Answers = dyn Fn(&str, &Value, usize) -> (u16, String) + Send + Sync;

/// A service that answers as a test says.
struct Service {
    url: String,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Service {
    fn start(
        answers: impl Fn(&str, &Value, usize) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let (counts, answers): (_, Arc<Answers>) = (Arc::clone(&asked), Arc::new(answers));
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counts, answers) = (Arc::clone(&counts), Arc::clone(&answers));
                thread::spawn(move || serve(stream, &counts, &*answers));
            }
        });
        let url = format!(
            "sqs://{address}/1/events?region=us-east-1&wait_time_seconds=1\
             &aws_access_key_id=AKID&aws_secret_access_key=S3CRET"
        );
        Self { url, asked }
    }

    fn asked(&self, action: &str) -> usize {
        self.asked.lock().unwrap().get(action).copied().unwrap_or_default()
    }
}

fn serve(
    stream: TcpStream,
    counts: &Mutex<HashMap<String, usize>>,
    answers: &Answers,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut action, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "x-amz-target" => action = value.trim().rsplit('.').next()?.to_owned(),
            "content-length" => length = value.trim().parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let before = {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(action.clone()).or_default();
        *count += 1;
        *count - 1
    };
    let body: Value = String::from_utf8(body).ok()?.parse().unwrap_or_default();
    let (status, answer) = answers(&action, &body, before);
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(answer.as_bytes()).ok()
}

fn ok(answer: &Value) -> (u16, String) {
    (200, answer.to_string())
}

fn error(status: u16, code: &str) -> (u16, String) {
    (
        status,
        json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": "as the test says" })
            .to_string(),
    )
}

/// Says that all entries of a request are done.
fn all_done(body: &Value) -> (u16, String) {
    let ids: Vec<_> =
        body["Entries"].as_array().unwrap().iter().map(|entry| &entry["Id"]).collect();
    let done: Vec<_> = ids
        .iter()
        .map(|id| json!({ "Id": id, "MessageId": "m", "MD5OfMessageBody": "0" }))
        .collect();
    ok(&json!({ "Successful": done, "Failed": [] }))
}

fn attributes() -> (u16, String) {
    let policy =
        json!({ "deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:dead", "maxReceiveCount": 9 });
    ok(&json!({ "Attributes": { "RedrivePolicy": policy.to_string() } }))
}

fn message(n: usize) -> Value {
    let event = Event::new("a").id(format!("e-{n}")).payload(n);
    let body = String::from_utf8(railbus::codec::encode(&event).unwrap()).unwrap();
    json!({
        "MessageId": format!("m-{n}"), "ReceiptHandle": format!("r-{n}"), "Body": body,
        "MD5OfBody": "0", "Attributes": { "ApproximateReceiveCount": "1" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_throttled_is_tried_again_by_one_layer_until_it_goes_through() {
    let service = Service::start(|action, body, before| match action {
        "SendMessageBatch" if before < 3 => error(400, "RequestThrottled"),
        "SendMessageBatch" if before < 5 => (503, String::new()),
        "SendMessageBatch" => all_done(body),
        _ => attributes(),
    });
    let bus = Bus::open(&*service.url).await.unwrap();
    bus.publish(Event::new("a").payload(1)).await.unwrap();
    assert_eq!(service.asked("SendMessageBatch"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_without_an_end_is_an_error_that_may_be_tried_again() {
    let service = Service::start(|action, _, _| match action {
        "SendMessageBatch" => error(400, "RequestThrottled"),
        _ => attributes(),
    });
    let bus = Bus::open(&*service.url).await.unwrap();
    let failed = bus.publish(Event::new("a").payload(1)).await.unwrap_err();
    assert!(failed.is_retryable() && failed.kind() == ErrorKind::Unavailable, "{failed}");
    // One layer: not eight times as many.
    assert_eq!(service.asked("SendMessageBatch"), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_of_which_nothing_is_known_is_not_sent_twice() {
    for answer in [
        error(500, "InternalError"),
        (502, "<html>bad gateway</html>".into()),
        (200, "no JSON".into()),
    ] {
        let said = answer.clone();
        let service = Service::start(move |action, _, _| match action {
            "SendMessageBatch" => said.clone(),
            _ => attributes(),
        });
        let bus = Bus::open(&*service.url).await.unwrap();
        let failed = bus.publish(Event::new("a").payload(1)).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{answer:?}: {failed}");
        assert_eq!(service.asked("SendMessageBatch"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_batch_has_its_own_fate() {
    let service = Service::start(|action, body, before| match action {
        "SendMessageBatch" => {
            let entries = body["Entries"].as_array().unwrap();
            let (mut done, mut failed) = (Vec::new(), Vec::new());
            for entry in entries {
                let event: Value = entry["MessageBody"].as_str().unwrap().parse().unwrap();
                let fault = |code: &str, theirs: bool| json!({ "Id": entry["Id"], "Code": code, "SenderFault": theirs });
                match event["data"].as_u64().unwrap() {
                    3 => failed.push(fault("InvalidMessageContents", true)),
                    5 if before == 0 => failed.push(fault("InternalError", false)),
                    7 if before < 2 => failed.push(fault("RequestThrottled", true)),
                    // Of one the answer says nothing.
                    9 => {}
                    _ => done.push(
                        json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "0" }),
                    ),
                }
            }
            ok(&json!({ "Successful": done, "Failed": failed }))
        }
        _ => attributes(),
    });
    let bus = Bus::open(&*service.url).await.unwrap();
    let events: Vec<_> = (0..10).map(|n| Event::new("a").payload(n).into()).collect();
    let results = bus.publish_all(&events).await;
    let failed: Vec<_> = results
        .iter()
        .enumerate()
        .filter_map(|(n, r)| Some((n, r.as_ref().err()?.kind())))
        .collect();
    assert_eq!(failed, [(3, ErrorKind::InvalidEvent), (9, ErrorKind::Unavailable)]);
    assert_eq!(service.asked("SendMessageBatch"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_for_long_ends_no_consumer() {
    let well = Arc::<AtomicBool>::default();
    let is_well = Arc::clone(&well);
    let service = Service::start(move |action, body, before| match action {
        "ReceiveMessage" if !is_well.load(SeqCst) => match before % 5 {
            0 => error(500, "InternalError"),
            1 => error(400, "RequestThrottled"),
            2 => (503, "<html>".into()),
            3 => (200, "[".into()),
            _ => (200, String::new()),
        },
        "ReceiveMessage" if before % 2 == 0 => ok(&json!({ "Messages": [message(before)] })),
        "ReceiveMessage" => ok(&json!({})),
        "DeleteMessageBatch" => all_done(body),
        _ => attributes(),
    });
    let bus = Bus::open(&*service.url).await.unwrap();
    let (says, mut said) = mpsc::unbounded_channel();
    bus.on("a")
        .group("g")
        .run(move |event: &Event| drop(says.send(event.id().to_owned())))
        .await
        .unwrap();
    let asked = || service.asked("ReceiveMessage");
    while asked() < 5 {
        // sleep: nothing tells how often it was asked
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    well.store(true, SeqCst);
    tokio::time::timeout(Duration::from_secs(60), said.recv()).await.unwrap().unwrap();
    bus.close_within(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_for_a_while_end_no_consumer() {
    let service = Service::start(|action, body, before| match action {
        "ReceiveMessage" if (1..3).contains(&before) => error(403, "AccessDenied"),
        "ReceiveMessage" => ok(&json!({ "Messages": [message(before)] })),
        "DeleteMessageBatch" => all_done(body),
        _ => attributes(),
    });
    let bus = Bus::open(&*service.url).await.unwrap();
    let (says, mut said) = mpsc::unbounded_channel();
    bus.on("a")
        .group("g")
        .run(move |event: &Event| drop(says.send(event.id().to_owned())))
        .await
        .unwrap();
    for _ in 0..3 {
        tokio::time::timeout(Duration::from_secs(60), said.recv()).await.unwrap().unwrap();
    }
    bus.close_within(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_regions_and_rights_are_told_apart_when_it_opens() {
    for (status, code, kind, said) in [
        (403, "InvalidClientTokenId", ErrorKind::Denied, "credentials"),
        (403, "SignatureDoesNotMatch", ErrorKind::Denied, "secret"),
        (403, "ExpiredToken", ErrorKind::Denied, "expired"),
        (404, "InvalidAddress", ErrorKind::Config, "region_name"),
        (400, "QueueDoesNotExist", ErrorKind::NotFound, "account"),
        (400, "AWS.SimpleQueueService.NonExistentQueue", ErrorKind::NotFound, "account"),
    ] {
        let service = Service::start(move |_, _, _| error(status, code));
        let failed = Bus::open(&*service.url).await.unwrap_err();
        let told = format!("{failed} {}", failed.advice().unwrap_or_default());
        assert_eq!(failed.kind(), kind, "{told}");
        assert!(told.contains(said) && !told.contains("S3CRET"), "{told}");
        assert_eq!(service.asked("GetQueueAttributes"), 1, "it is not tried again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_send_receive_and_delete_needs_no_more() {
    let service = Service::start(|action, body, before| match action {
        "SendMessageBatch" | "DeleteMessageBatch" => all_done(body),
        "ReceiveMessage" if before == 0 => ok(&json!({ "Messages": [message(0)] })),
        "ReceiveMessage" => ok(&json!({})),
        _ => error(403, "AccessDeniedException"),
    });
    let bus = Bus::open(&*service.url).await.unwrap();
    bus.ping().await.unwrap();
    bus.publish(Event::new("a").payload(1)).await.unwrap();
    let (says, mut said) = mpsc::unbounded_channel();
    let on = bus.on("a").group("g").then(railbus::delivery::Then::Drop).retry(Retry::attempts(1));
    on.run(move |event: &Event| drop(says.send(event.id().to_owned()))).await.unwrap();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(60), said.recv()).await.unwrap().unwrap(),
        "e-0"
    );
    bus.close_within(Duration::from_secs(5)).await.unwrap();
    assert_eq!(service.asked("DeleteMessageBatch"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn settlements_go_ten_in_a_request_and_those_that_fail_are_held_still() {
    let service = Service::start(|action, body, before| match action {
        "ReceiveMessage" if before < 2 => {
            let ten = (before * 10..before * 10 + 10).map(message).collect::<Vec<_>>();
            ok(&json!({ "Messages": ten }))
        }
        "ReceiveMessage" => ok(&json!({})),
        "DeleteMessageBatch" => {
            let (mut done, mut failed) = (Vec::new(), Vec::new());
            for entry in body["Entries"].as_array().unwrap() {
                match entry["ReceiptHandle"].as_str().unwrap() {
                    "r-3" if before < 2 => failed.push(json!({ "Id": entry["Id"], "Code": "Odd", "SenderFault": true })),
                    "r-4" => failed.push(json!({ "Id": entry["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": true })),
                    _ => done.push(json!({ "Id": entry["Id"] })),
                }
            }
            ok(&json!({ "Successful": done, "Failed": failed }))
        }
        _ => attributes(),
    });
    let backend = backends::open(Options::parse(&service.url).unwrap()).await.unwrap();
    let (group, interest) = (Some("g".into()), Interest::all());
    let lease = Duration::from_secs(30);
    let request = Subscribe { group, interest, start: Start::Oldest, lease, order: Order::Any };
    let source = backend.subscribe(request).await.unwrap();
    let mut held = source.fetch(100).await.unwrap();
    while held.len() < 20 {
        held.extend(source.fetch(100).await.unwrap());
    }
    let ack = |n: usize| Settle::new(held[n].receipt.clone(), Verdict::Ack);
    let acks: Vec<_> = (0..20).map(ack).collect();
    let results = source.settle(&acks).await;
    let failed: Vec<_> = results
        .iter()
        .enumerate()
        .filter_map(|(n, r)| Some((n, r.as_ref().err()?.kind())))
        .collect();
    assert_eq!(failed, [(3, ErrorKind::Config), (4, ErrorKind::Stale)]);
    assert_eq!(service.asked("DeleteMessageBatch"), 2);
    // What failed is held, and what is another's is not.
    let again = source.settle(&[ack(3), ack(4)]).await;
    assert!(again[0].is_ok());
    assert_eq!(again[1].as_ref().unwrap_err().kind(), ErrorKind::Stale);
    backend.close(Duration::from_secs(3)).await.unwrap();
}
