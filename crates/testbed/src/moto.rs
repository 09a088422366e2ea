//! moto: a service that answers as Amazon SQS does, in memory.

use crate::{
    error::{Doing, Error, Result},
    folder::Folder,
    programs,
    python::Python,
    server::{Launch, Plan, Server},
};
use rustix::process::Signal;
use std::{
    ffi::OsString,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The packages that it is, at the versions that the tests were written for.
pub(crate) const PACKAGES: &[&str] = &["flask==3.1.3", "flask-cors==6.0.5", "moto==5.2.5"];

/// The account that all who ask have there.
const ACCOUNT: &str = "123456789012";

/// How long it may take to say that it is there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Its own server, but for connections that stay open, as those of the service do.
const PROGRAM: &str = r#"
import logging, sys, time
import moto.sqs.models
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

# It has no locks of its own: so threads take turns only where they wait.
sys.setswitchinterval(60)
logging.getLogger("werkzeug").setLevel(logging.ERROR)
# For each message that it hands out it would look through the queue, with a slow clock.
moto.sqs.models.unix_time = time.time
moto.sqs.models.unix_time_millis = lambda *_: time.time() * 1000
moto.sqs.models.SQSBackend.is_message_valid_based_on_retention_period = (
    lambda self, name, message: message.sent_timestamp / 1000
    + self.queues[name].message_retention_period > time.time()
)
WSGIRequestHandler.protocol_version = "HTTP/1.1"
# Small answers are not held back to go together.
WSGIRequestHandler.disable_nagle_algorithm = True
app = DomainDispatcherApplication(create_backend_app)
run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
"#;

/// A moto server of its own, which answers as SQS does. It keeps everything in memory: what was killed
/// has no queues when it is started again. It asks for no credentials, and takes any.
///
/// What all servers have (`port`, `kill`, `start_again`, ..) is in [`Server`].
#[derive(Debug)]
pub struct Moto {
    server: Server,
}

impl Moto {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// There is no Python, its packages can't be installed, or it does not come up.
    pub fn start() -> Result<Self> {
        let python = Python::with(PACKAGES)?;
        let program = programs::find(&programs::PYTHON)?.as_at(python.program());
        let folder = Folder::new(None, "KILL")?;
        // Which port that is, is known when it is started.
        let address = Arc::<Mutex<Option<SocketAddr>>>::default();
        let asked = Arc::clone(&address);
        let ready = move || {
            let address = *asked.lock().unwrap_or_else(PoisonError::into_inner);
            address.map_or(Ok(false), answers)
        };
        let plan = Plan { name: "moto", user: None, orderly: Signal::TERM, folder };
        let server = Server::begin(plan, Box::new(ready), |folder, port| {
            *address.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(SocketAddr::from(([127, 0, 0, 1], port)));
            let script = folder.write("moto-server.py", PROGRAM, None)?;
            let args = vec![script.into_os_string(), OsString::from(port.to_string())];
            Ok(Launch { program: program.clone(), args, disk: None })
        })?;
        Ok(Self { server })
    }

    /// Returns the URL of a queue there, as SQS names it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let moto = railbus_testbed::Moto::start()?;
    /// assert!(moto.queue_url("events").ends_with("/123456789012/events"));
    /// # Ok::<(), railbus_testbed::Error>(())
    /// ```
    pub fn queue_url(&self, name: &str) -> String {
        format!("http://{}/{ACCOUNT}/{name}", self.address())
    }

    /// Asks it directly, as SQS's own protocol does: an action and its JSON; returns the answer's.
    ///
    /// # Errors
    ///
    /// It does not answer, or refuses.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let moto = railbus_testbed::Moto::start()?;
    /// moto.ask("CreateQueue", r#"{"QueueName": "events"}"#)?;
    /// # Ok::<(), railbus_testbed::Error>(())
    /// ```
    pub fn ask(&self, action: &str, json: &str) -> Result<String> {
        let length = json.len();
        let key = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/sqs/aws4_request, \
                   SignedHeaders=host, Signature=0";
        let request = format!(
            "POST / HTTP/1.0\r\nHost: localhost\r\nX-Amz-Target: AmazonSQS.{action}\r\n\
             Content-Type: application/x-amz-json-1.0\r\nContent-Length: {length}\r\n\
             Authorization: {key}\r\n\r\n{json}"
        );
        let asked = TcpStream::connect(self.address()).and_then(|mut stream| {
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = asked.doing(|| format!("moto: {action}"))?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.into()),
            _ => Err(Error::new(format!("moto: {action}: {answer}"))),
        }
    }

    /// Returns a URL by which Railbus opens a queue there, with more settings behind it.
    pub fn url(&self, name: &str) -> String {
        format!(
            "sqs://{}/{ACCOUNT}/{name}?region=us-east-1&aws_access_key_id=testing&aws_secret_access_key=testing",
            self.address()
        )
    }
}

impl Deref for Moto {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn answers(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWERS_WITHIN)?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    stream.write_all(b"GET /moto-api/ HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(&answer[9..] == b"200")
}
