//! A program in another language that a test talks with by lines of JSON.

use railbus_testbed::Python;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

/// How long an answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// What the programs are written with, at versions that Python 3.10 knows.
const PACKAGES: [&str; 4] =
    ["asyncpg==0.30.0", "cloudevents==2.2.0", "dataknobs-common==1.3.8", "redis==5.2.1"];

pub(crate) struct Peer {
    child: Child,
    asks: ChildStdin,
    said: Receiver<Value>,
    heard: Vec<Value>,
}

impl Peer {
    /// Starts one of the scripts, and waits until it hears.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let python = Python::with(&PACKAGES).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peers");
        let mut child = Command::new(python.program())
            .arg(folder.join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, said) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = say.send(serde_json::from_str(&line).unwrap());
            }
        });
        let asks = child.stdin.take().unwrap();
        let mut peer = Self { child, asks, said, heard: Vec::new() };
        peer.until("ready");
        peer
    }

    /// Has it publish something, and returns once it has.
    pub(crate) fn publish(&mut self, what: &Value) {
        writeln!(self.asks, "{what}").unwrap();
        self.until("published");
    }

    /// Returns the next event that it heard.
    pub(crate) fn hear(&mut self) -> Value {
        if self.heard.is_empty() {
            self.said.recv_timeout(ANSWERS_WITHIN).unwrap()
        } else {
            self.heard.remove(0)
        }
    }

    fn until(&mut self, word: &str) {
        loop {
            let said = self.said.recv_timeout(ANSWERS_WITHIN).unwrap();
            if said == word {
                return;
            }
            self.heard.push(said);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
