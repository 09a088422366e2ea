//! A server that answers as it is told, and keeps what it was asked.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// By which of the connections, from 0.
    pub(crate) connection: usize,
}

/// The server; the last of its answers is that to all that is asked later.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each request in turn: a status, and headers if there are any.
    pub(crate) async fn says(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            answers: Arc::new(Mutex::new(answers.iter().rev().map(|a| (*a).into()).collect())),
        };
        let of = server.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(of.clone().talk(stream, connection));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    async fn talk(self, mut stream: TcpStream, connection: usize) {
        let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
                match stream.read(&mut buffer).await {
                    Ok(count @ 1..) => read.extend_from_slice(&buffer[..count]),
                    _ => return,
                }
                continue;
            };
            let head = String::from_utf8(read[..end].to_vec()).unwrap();
            let pairs = head.split("\r\n").filter_map(|line| line.split_once(": "));
            let headers: BTreeMap<_, _> =
                pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
            let length: usize = headers["content-length"].parse().unwrap();
            while read.len() < end + 4 + length {
                let count = stream.read(&mut buffer).await.unwrap();
                read.extend_from_slice(&buffer[..count]);
            }
            let body = String::from_utf8(read[end + 4..end + 4 + length].to_vec()).unwrap();
            read.drain(..end + 4 + length);
            let answer = {
                self.asked.lock().unwrap().push(Asked { headers, body, connection });
                let mut answers = self.answers.lock().unwrap();
                if answers.len() > 1 { answers.pop() } else { answers.last().cloned() }
            };
            let Some(answer) = answer.filter(|answer| answer != "nothing") else {
                return std::future::pending().await;
            };
            // More than comes with the head, where that is asked for.
            let body = "ok".repeat(if answer.contains("x-large") { 30_000 } else { 1 });
            let text = format!("HTTP/1.1 {answer}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
