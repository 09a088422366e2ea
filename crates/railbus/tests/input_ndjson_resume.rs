//! Lines of JSON from files that are read in several runs, and from streams.
#![cfg(feature = "app")]
#![allow(clippy::unwrap_used)]

use railbus::{
    backend::{Outgoing, Position},
    error::ErrorKind,
    input::EventInput,
    inputs::ndjson::{Ndjson, REJECTED},
};
use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};
use tempfile::TempDir;

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

fn types(all: &[Outgoing]) -> Vec<&str> {
    all.iter().map(|out| out.event.event_type()).collect()
}

#[tokio::test]
async fn reading_resumes_behind_any_event() {
    let folder = Folder::new();
    let text: String = (0..1000)
        .map(|n| format!("{{\"type\":\"t\",\"n\":{n}}}{}\n", "\n \n".repeat(n % 3)))
        .collect();
    let path = folder.file(&text);
    let all = drain(&mut Ndjson::new(&path).unwrap()).await;
    assert_eq!(all.len(), 1000);
    for seen in [0_usize, 1, 255, 256, 999, 1000] {
        let position = seen.checked_sub(1).map(|last| all[last].position.as_ref().unwrap().to);
        let mut input = Ndjson::new(&path).unwrap();
        input.resume(position).await.unwrap();
        let rest = drain(&mut input).await;
        let ids =
            |all: &[Outgoing]| all.iter().map(|o| o.event.id().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&rest), ids(&all[seen..]));
        let advances =
            |all: &[Outgoing]| all.iter().map(|o| o.position.clone()).collect::<Vec<_>>();
        assert_eq!(advances(&rest), advances(&all[seen..]));
    }
}

#[tokio::test]
async fn resuming_again_goes_back_and_forth() {
    let folder = Folder::new();
    let path = folder.file("{\"type\":\"a\"}\n{\"type\":\"b\"}\n{\"type\":\"c\"}\n");
    let mut input = Ndjson::new(&path).unwrap();
    let all = drain(&mut input).await;
    assert!(input.next().await.unwrap().is_empty());
    let behind = |n: usize| Some(all[n].position.as_ref().unwrap().to);
    input.resume(behind(1)).await.unwrap();
    assert_eq!(types(&drain(&mut input).await), ["c"]);
    input.resume(behind(0)).await.unwrap();
    assert_eq!(types(&drain(&mut input).await), ["b", "c"]);
    input.resume(None).await.unwrap();
    assert_eq!(types(&drain(&mut input).await), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_file_may_grow_between_runs() {
    let folder = Folder::new();
    let path = folder.file("{\"type\":\"a\"}");
    let all = drain(&mut Ndjson::new(&path).unwrap()).await;
    let position = all[0].position.as_ref().unwrap().to;
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"\n{\"type\":\"b\"}\n").unwrap();
    let mut input = Ndjson::new(&path).unwrap();
    input.resume(Some(position)).await.unwrap();
    assert_eq!(types(&drain(&mut input).await), ["b"]);
}

#[tokio::test]
async fn a_file_that_changed_is_an_error_that_says_how_to_start_over() {
    let folder = Folder::new();
    let path = folder.file("{\"type\":\"a\"}\n{\"type\":\"b\"}\n");
    let all = drain(&mut Ndjson::new(&path).unwrap()).await;
    let position = all[1].position.as_ref().unwrap().to;
    for text in ["{\"type\":\"a\"}\n", "", "{\"type\":\"A\"}\n{\"type\":\"b\"}\n{\"type\":\"c\"}\n"]
    {
        folder.file(text);
        let mut input = Ndjson::new(&path).unwrap();
        let error = input.resume(Some(position)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed);
        assert!(error.to_string().contains("lines.ndjson"), "{error}");
        assert!(error.advice().unwrap().contains("start over"), "{error}");
    }
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let folder = Folder::new();
    let text: String = (0..5000).map(|n| format!("{{\"type\":\"t\",\"n\":{n}}}\n")).collect();
    let mut input = Ndjson::new(folder.file(text)).unwrap();
    let mut seen = Vec::new();
    loop {
        let batch = tokio::select! {
            biased;
            batch = input.next() => batch.unwrap(),
            () = tokio::task::yield_now() => continue,
        };
        if batch.is_empty() {
            break;
        }
        seen.extend(batch.iter().map(|out| out.event.get::<u64>("n").unwrap()));
    }
    assert_eq!(seen, (0..5000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_named_pipe_is_read_as_it_comes() {
    let folder = Folder::new();
    let path = folder.0.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut input = Ndjson::new(&path).unwrap();
    assert!(!input.can_resume());
    input.resume(Some(Position { offset: 5, fingerprint: 5 })).await.unwrap();
    let writer = tokio::task::spawn_blocking(move || fs::File::create(path).unwrap());
    let mut writer = writer.await.unwrap();
    for n in 0..3 {
        // Each line comes out before the next one is there.
        writeln!(writer, "{{\"type\":\"t{n}\"}}").unwrap();
        let batch = input.next().await.unwrap();
        assert_eq!(types(&batch), [format!("t{n}")]);
        assert_eq!(batch[0].position, None);
        // Resuming a stream changes nothing.
        input.resume(None).await.unwrap();
    }
    drop(writer);
    assert!(input.next().await.unwrap().is_empty());
}

#[test]
fn stdin_is_read_to_its_end() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env("AS_CHILD", "yes")
        .args(["--exact", "stdin_within"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"type\":\"a\"}\nx\n{\"type\":\"a\"}").unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

#[tokio::test]
async fn stdin_within() {
    if std::env::var_os("AS_CHILD").is_none() {
        return; // Run by stdin_is_read_to_its_end.
    }
    let mut input = Ndjson::new("-").unwrap();
    assert_eq!(input.name(), "-");
    input.resume(None).await.unwrap();
    let all = drain(&mut input).await;
    assert_eq!(types(&all), ["a", REJECTED, "a"]);
    assert_ne!(all[0].event.id(), all[2].event.id());
    assert!(all.iter().all(|out| out.position.is_none()));
    assert!(all[1].rejected.as_deref().unwrap().starts_with("stdin, line at byte 13: "));
    assert_eq!(all[0].event.source(), "ndjson:stdin");
}
