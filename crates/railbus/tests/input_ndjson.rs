//! Lines of JSON as events: what becomes one, and what is rejected.
#![cfg(feature = "app")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    backend::{Outgoing, Position},
    error::ErrorKind,
    id::derived_id,
    input::EventInput,
    inputs::ndjson::{LINE_MAX, Ndjson, REJECTED},
};
use serde_json::{Value, json};
use std::{fs, io::Write, path::PathBuf};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join("lines.ndjson");
        fs::write(&path, text).unwrap();
        path.canonicalize().unwrap()
    }
}

async fn drain(input: &mut Ndjson) -> Vec<Outgoing> {
    let mut all = Vec::new();
    loop {
        let batch = input.next().await.unwrap();
        if batch.is_empty() {
            return all;
        }
        assert!(batch.len() <= 256);
        all.extend(batch);
    }
}

async fn read(text: impl AsRef<[u8]>) -> Vec<Outgoing> {
    let folder = Folder::new();
    drain(&mut Ndjson::new(folder.file(text)).unwrap()).await
}

/// Reads one line that must be rejected; returns why.
async fn rejection(line: impl AsRef<[u8]>) -> String {
    let all = read(&line).await;
    assert_eq!(all.len(), 1);
    let reason = all[0].rejected.clone().expect("not rejected");
    let event = &all[0].event;
    assert_eq!((event.event_type(), event.topic()), (REJECTED, REJECTED));
    assert_eq!(event.get::<String>("reason").unwrap(), reason);
    assert_eq!(event.get::<u64>("offset"), Some(0));
    let head = String::from_utf8_lossy(line.as_ref());
    let head: String = head.trim_end().chars().take(100).collect();
    assert!(event.get::<String>("head").unwrap().starts_with(&head));
    assert!(reason.contains("lines.ndjson, line at byte 0: "), "{reason}");
    assert!(reason.len() < 1000, "{}", reason.len());
    event.check().unwrap();
    reason.split("byte 0: ").nth(1).unwrap().to_owned()
}

fn types(all: &[Outgoing]) -> Vec<&str> {
    all.iter().map(|out| out.event.event_type()).collect()
}

#[tokio::test]
async fn a_line_is_an_event_with_the_text_as_it_stands() {
    let line = r#"{ "type":"a.b",  "z":1.0, "a":1e2, "type2":"\u00fc" }"#;
    let folder = Folder::new();
    let path = folder.file(format!("{line}\n"));
    let all = drain(&mut Ndjson::new(&path).unwrap()).await;
    let event = &all[0].event;
    assert_eq!(all.len(), 1);
    assert_eq!((event.event_type(), event.topic()), ("a.b", "a.b"));
    assert_eq!(event.raw_payload().text().unwrap(), line.as_bytes());
    assert_eq!(event.id(), derived_id(path.to_str().unwrap(), "0"));
    assert_eq!(event.source(), "ndjson:lines.ndjson");
    assert!(all[0].rejected.is_none() && all[0].run.is_none());
}

#[tokio::test]
async fn fields_are_taken_by_path_and_the_topic_is_made_of_them() {
    let folder = Folder::new();
    let path = folder.file(
        r#"{"event":{"name":"push"},"a.b":"literal","a":{"b":"no"},"n":7,"t":true,
            "l":[{"x":"second"}],"payload":{"k": [1,2]}}"#
            .replace('\n', ""),
    );
    let mut input = Ndjson::new(path)
        .unwrap()
        .type_field("event.name")
        .payload_field("payload.k")
        .topic("x:{event.name}:{a.b}:{n}:{t}:{l.0.x}:{{}}")
        .unwrap();
    let all = drain(&mut input).await;
    assert_eq!(all[0].rejected, None);
    let event = &all[0].event;
    assert_eq!(event.event_type(), "push");
    assert_eq!(event.topic(), "x:push:literal:7:true:second:{}");
    assert_eq!(&event.raw_payload().text().unwrap()[..], b"[1,2]");
}

#[tokio::test]
async fn a_bad_template_is_refused() {
    let folder = Folder::new();
    let path = folder.file("");
    for template in ["{", "a}", "{}", "{a", "{a{b}", "}{a}"] {
        let error = Ndjson::new(&path).unwrap().topic(template).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{template}");
    }
}

#[tokio::test]
async fn empty_lines_line_ends_and_byte_order_marks_count_for_nothing() {
    let text = "\u{feff}{\"type\":\"a\"}\r\n\r\n  \t\n\n{\"type\":\"b\"}\n \n{\"type\":\"c\"}";
    let all = read(text).await;
    assert_eq!(types(&all), ["a", "b", "c"]);
    assert_eq!(&all[0].event.raw_payload().text().unwrap()[..], b"{\"type\":\"a\"}");
    assert!(read("").await.is_empty());
    assert!(read("\n\n \r\n").await.is_empty());
    assert!(read("\u{feff}").await.is_empty());
    // Each advance starts where the one before it ended, whatever lies between.
    let mut at = 0;
    for out in &all {
        let position = out.position.as_ref().unwrap();
        assert_eq!(position.from, at);
        at = position.to.offset;
        assert_eq!(position.to.fingerprint, xxh3_64(&text.as_bytes()[..at as usize]));
    }
    assert_eq!(at as usize, text.len());
}

#[tokio::test]
async fn what_is_no_event_is_rejected_with_the_reason() {
    let long = "x".repeat(4096);
    for (line, why) in [
        ("hello".to_owned(), "it is not JSON: expected value at its byte 1"),
        (r#"{"type":"a""#.to_owned(), "it is not JSON: EOF"),
        (r#"{"type":"a"} {"#.to_owned(), "trailing characters"),
        ("[1]".to_owned(), "it is JSON, but not an object"),
        (format!("\"{}\"", "long".repeat(100_000)), "it is JSON, but not an object"),
        ("{}".to_owned(), "it has no `type`"),
        (r#"{"type":3}"#.to_owned(), "its `type` is not a text"),
        (r#"{"type":null}"#.to_owned(), "its `type` is not a text"),
        (r#"{"type":""}"#.to_owned(), "the type is empty"),
        (format!(r#"{{"type":"{long}"}}"#), "the type has 4096 bytes"),
        (r#"{"type":"a\u0000"}"#.to_owned(), "NUL"),
    ] {
        let reason = rejection(&line).await;
        assert!(reason.contains(why), "{reason}");
    }
    let reason = rejection(b"{\"type\":\"\xff\"}").await;
    assert_eq!(reason, "it is not UTF-8 from its byte 9 on");
}

#[tokio::test]
async fn a_line_without_a_field_of_the_topic_or_the_payload_is_rejected() {
    let folder = Folder::new();
    let lines = [
        r#"{"type":"a","k":"v","p":1}"#,
        r#"{"type":"a","p":1}"#,
        r#"{"type":"a","k":null,"p":1}"#,
        r#"{"type":"a","k":"v"}"#,
        r#"{"type":"a","k":"","p":1}"#,
    ];
    let mut input = Ndjson::new(folder.file(lines.join("\n"))).unwrap();
    input = input.payload_field("p").topic("{k}").unwrap();
    let all = drain(&mut input).await;
    let reasons: Vec<_> = all
        .iter()
        .map(|out| out.rejected.as_deref().map(|r| r.rsplit(": ").next().unwrap()))
        .collect();
    let wanted = [
        None,
        Some("it has no `k`"),
        Some("its `k` is not a text, a number or a boolean"),
        Some("it has no `p`"),
        Some("the topic is empty"),
    ];
    assert_eq!(reasons, wanted);
    let offset: u64 = all[1].event.get("offset").unwrap();
    assert_eq!(offset, lines[0].len() as u64 + 1);
}

#[tokio::test]
async fn depth_is_limited_and_brackets_in_texts_do_not_count() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!("{{\"type\":\"a\",\"x\":{open}{close}}}")
    };
    let fits = read(nested(127)).await;
    assert_eq!(fits[0].rejected, None);
    assert!(fits[0].event.raw_payload().value().is_some(), "accepted, but can't be looked into");
    assert!(rejection(nested(128)).await.contains("deeper than 127 levels"));
    assert!(rejection(nested(10_000)).await.contains("deeper than 127 levels"));
    assert!(rejection("[".repeat(10_000)).await.contains("deeper than 127 levels"));
    let text = format!(r#"{{"type":"a","x":"{}\" {}"}}"#, "[".repeat(500), "{".repeat(500));
    assert_eq!(read(text).await[0].rejected, None);
}

#[tokio::test]
async fn a_huge_line_is_passed_over_and_the_next_one_read() {
    let folder = Folder::new();
    let path = folder.file("{\"type\":\"before\"}\n");
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let (block, blocks) = (vec![b'x'; 1024 * 1024], 100);
    for _ in 0..blocks {
        file.write_all(&block).unwrap();
    }
    file.write_all(b"\n{\"type\":\"after\"}\n").unwrap();
    let all = drain(&mut Ndjson::new(&path).unwrap()).await;
    assert_eq!(types(&all), ["before", REJECTED, "after"]);
    let reason = all[1].rejected.as_deref().unwrap();
    assert!(reason.contains("line at byte 18: it has 104857600 bytes"), "{reason}");
    assert_eq!(all[1].event.get::<String>("head").unwrap(), "x".repeat(1024));
    let end = all[2].position.as_ref().unwrap().to;
    assert_eq!(end.offset, fs::metadata(&path).unwrap().len());
    assert_eq!(end.fingerprint, xxh3_64(&fs::read(&path).unwrap()));
    // A huge last line without an end is told as well.
    let path = folder.file(vec![b'y'; LINE_MAX + 1]);
    let all = drain(&mut Ndjson::new(&path).unwrap()).await;
    assert!(all[0].rejected.as_deref().unwrap().contains("it has 16777217 bytes"));
}

#[tokio::test]
async fn the_longest_line_is_an_event() {
    let frame = r#"{"type":"a","x":""}"#.len();
    let line = |more: usize| {
        format!("{{\"type\":\"a\",\"x\":\"{}\"}}", "x".repeat(LINE_MAX - frame + more))
    };
    let all = read(format!("{}\n{}\n", line(0), line(1))).await;
    assert_eq!(all[0].rejected, None);
    assert!(all[1].rejected.is_some());
}

#[tokio::test]
async fn a_path_that_can_not_be_read_is_a_clear_error() {
    let folder = Folder::new();
    let error = Ndjson::new(folder.0.path().join("none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("none") && error.advice().is_some());
    let error = Ndjson::new(folder.0.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    // One that goes away later.
    let path = folder.file("{}");
    let mut input = Ndjson::new(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(input.next().await.unwrap_err().kind(), ErrorKind::NotFound);
    let some = Some(Position { offset: 1, fingerprint: 0 });
    assert_eq!(input.resume(some).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn the_name_is_the_real_path() {
    let folder = Folder::new();
    let path = folder.file("");
    let link = folder.0.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let input = Ndjson::new(link).unwrap();
    assert_eq!(input.name(), path.to_str().unwrap());
    assert!(input.can_resume() && !input.is_endless());
}

#[tokio::test]
async fn keys_that_come_twice_or_are_escaped() {
    let all = read(r#"{"type":"a","\u0074ype":"b"}"#).await;
    assert_eq!(types(&all), ["b"]);
    let value: Value = all[0].event.payload().unwrap();
    assert_eq!(value, json!({"type": "b"}));
}
