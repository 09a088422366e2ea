//! Servers that misbehave.

use super::{exception, failure, run, server::Server};
use railbus::{step::Flow, steps::http::HttpStep};
use serde_json::json;
use std::{
    io::Write,
    net::TcpListener,
    sync::mpsc::channel,
    time::{Duration, Instant},
};

/// Well above what a busy machine needs.
const SOON: Duration = Duration::from_secs(30);

fn step(server: &Server) -> HttpStep {
    HttpStep::post(&server.url).unwrap()
}

#[tokio::test]
async fn nobody_there_is_an_exception() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (kind, message) =
        exception(&HttpStep::post(format!("http://127.0.0.1:{port}")).unwrap()).await;
    assert_eq!(kind, "connection");
    assert!(message.contains("got no answer") && message.contains("refused"), "{message}");
    // A name that stands for no host, by its definition.
    let (kind, message) = exception(&HttpStep::post("http://nobody.invalid/x").unwrap()).await;
    assert_eq!(kind, "connection");
    assert!(message.starts_with("POST http://nobody.invalid/x got no answer"), "{message}");
}

#[tokio::test]
async fn a_server_without_tls_is_no_https() {
    let server = Server::says("200 OK", "1");
    let step = HttpStep::post(server.url.replace("http:", "https:")).unwrap();
    let (kind, message) = exception(&step.timeout(SOON)).await;
    assert_eq!(kind, "connection", "{message}");
    assert!(server.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn garbage_and_broken_answers_are_exceptions() {
    for bytes in [
        "",
        "hello\r\n\r\n",
        "HTTP/1.1",
        "HTTP/1.1 200 OK\r\ncontent-length: 5",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n1\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        let (kind, message) = exception(&step(&Server::raw(bytes))).await;
        assert_eq!(kind, "connection", "{bytes:?}: {message}");
    }
}

#[tokio::test]
async fn a_failure_whose_body_breaks_off_is_still_a_failure() {
    let server = Server::raw("HTTP/1.1 409 X\r\ncontent-length: 50\r\n\r\nsold out");
    let (message, value) = failure(&step(&server)).await;
    assert_eq!(message, "409 Conflict: sold out");
    assert_eq!(value, json!({"status": 409, "body": "sold out"}));
}

#[tokio::test]
async fn an_answer_may_come_in_chunks_and_after_a_continue() {
    let chunked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                   3\r\n[1,\r\n2\r\n2]\r\n0\r\ntrailer: x\r\n\r\n";
    assert_eq!(run(&step(&Server::raw(chunked))).await.unwrap(), Flow::next(json!([1, 2])));
    // Without a length it ends with the connection.
    let open = "HTTP/1.0 200 OK\r\n\r\n[1]";
    assert_eq!(run(&step(&Server::raw(open))).await.unwrap(), Flow::next(json!([1])));
}

#[tokio::test]
async fn a_reset_is_an_exception() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        // Closed with bytes that nobody read, a connection is reset.
        stream.peek(&mut [0]).unwrap();
    });
    let (kind, _) = exception(&HttpStep::post(url).unwrap()).await;
    assert_eq!(kind, "connection");
}

#[tokio::test]
async fn a_server_that_says_nothing_or_stops_halfway_times_out() {
    for said in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n1"] {
        let (held, hold) = channel::<()>();
        let hold = std::sync::Mutex::new(hold);
        let server = Server::new(move |_, stream| {
            stream.write_all(said.as_bytes()).unwrap();
            let _ = hold.lock().unwrap().recv();
            false
        });
        let began = Instant::now();
        let (kind, message) = exception(&step(&server).timeout(Duration::from_millis(100))).await;
        assert_eq!(kind, "timeout");
        assert!(message.ends_with("took longer than 100ms"), "{message}");
        assert!(began.elapsed() < SOON);
        drop(held);
    }
}

#[tokio::test]
async fn a_flood_is_stopped() {
    let flood = |status: &'static str| {
        Server::new(move |_, stream| {
            let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            // Until nobody reads any more.
            while stream.write_all(b"400\r\n").is_ok()
                && stream.write_all(&[b' '; 0x400]).is_ok()
                && stream.write_all(b"\r\n").is_ok()
            {}
            false
        })
    };
    let (kind, message) = exception(&step(&flood("200 OK")).output_max(100_000)).await;
    assert_eq!(kind, "output");
    assert!(message.ends_with("with more than 100000 bytes"), "{message}");
    assert_eq!(failure(&step(&flood("400 Bad"))).await.0, "400 Bad Request");
    // A limit is what may be answered, not one less.
    let server = Server::says("200 OK", "1234");
    assert_eq!(run(&step(&server).output_max(4)).await.unwrap(), Flow::next(json!(1234)));
    assert_eq!(exception(&step(&server).output_max(3)).await.0, "output");
}

#[tokio::test]
async fn a_connection_that_the_server_says_it_closes_is_not_used_again() {
    let server = Server::raw("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n1");
    for n in 1..=20 {
        assert_eq!(run(&step(&server)).await.unwrap(), Flow::next(json!(1)), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once() {
    let server = Server::new(|request, stream| {
        let (length, body) = (request.body.len(), &request.body);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").is_ok()
    });
    let all: Vec<_> = (0..100)
        .map(|_| {
            let step = step(&server);
            tokio::spawn(async move { run(&step).await })
        })
        .collect();
    for done in all {
        assert_eq!(done.await.unwrap().unwrap(), Flow::next(json!({"n": 1})));
    }
    assert_eq!(server.requests.lock().unwrap().len(), 100);
}
