//! A server on a free port that says what a test tells it to, byte by byte.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) line: String,
    /// Names in lower case, in the order of the request.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn read(from: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut request = Self::default();
        let mut line = String::new();
        loop {
            line.clear();
            if from.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let text = line.trim_end();
            match text.split_once(": ") {
                _ if request.line.is_empty() => request.line = text.into(),
                Some((name, value)) => {
                    request.headers.push((name.to_ascii_lowercase(), value.into()));
                }
                None => break,
            }
        }
        let length = request.header("content-length").map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        from.read_exact(&mut body).ok()?;
        request.body = String::from_utf8(body).unwrap();
        Some(request)
    }
}

pub(super) struct Server {
    pub(super) url: String,
    pub(super) requests: Arc<Mutex<Vec<Request>>>,
    pub(super) connections: Arc<AtomicUsize>,
}

impl Server {
    /// Answers each request by `answer`, which writes what it likes; the connection is closed when
    /// it returns false.
    pub(super) fn new(
        answer: impl Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/step", listener.local_addr().unwrap());
        let (requests, connections) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let (kept, counted) = (Arc::clone(&requests), Arc::clone(&connections));
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
                thread::spawn(move || talk(stream, &*answer, &kept));
            }
        });
        Self { url, requests, connections }
    }

    /// Answers every request with a status line and a body.
    pub(super) fn says(status: &str, body: &str) -> Self {
        Self::with(status, "", body)
    }

    /// As [`Server::says`], with more headers, each ended by a line break.
    pub(super) fn with(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
        Self::new(move |_, stream| stream.write_all(text.as_bytes()).is_ok())
    }

    /// Says these bytes to every request, then closes.
    pub(super) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::new(move |_, stream| {
            let _ = stream.write_all(&bytes);
            false
        })
    }

    pub(super) fn last(&self) -> Request {
        self.requests.lock().unwrap().last().cloned().expect("no request came")
    }
}

fn talk(
    mut stream: TcpStream,
    answer: &dyn Fn(&Request, &mut TcpStream) -> bool,
    kept: &Mutex<Vec<Request>>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = Request::read(&mut reader) {
        kept.lock().unwrap().push(request.clone());
        if !answer(&request, &mut stream) {
            return;
        }
    }
}
