//! A member of a group as a process of its own, to be killed.

use super::finding::{Broken, Checked};
use crate::{
    backend::{Backend, Settle, Start, Subscribe, Verdict},
    clock,
    error::{Error, ErrorKind, Result},
    predicate::{Clause, Interest},
};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// The variable that tells a process what to do as a member.
const VARIABLE: &str = "RAILBUS_CONFORMANCE_MEMBER";

/// What a process does as a member of a group, until it is killed or its standard input ends: it
/// settles some events and holds on to the rest.
///
/// # Examples
/// ```no_run
/// use railbus::{backends, conformance::{Counts, Member, Suite, Target}, options::Options};
/// use std::{env, io::stdout, process::Command};
///
/// /// The suite starts this program again as a member that it kills.
/// #[railbus::main]
/// async fn main() -> railbus::Result<()> {
///     const URL: &str = "sqlite:conformance.db";
///     if let Some(member) = Member::from_env()? {
///         return member.run(backends::open(Options::parse(URL)?).await?, stdout()).await;
///     }
///     let target = Target::url(URL)?.member(|| Command::new(env::current_exe().unwrap()));
///     let certificate = Suite::new(target).counts(Counts::stress()).run().await?;
///     println!("{}", certificate.to_markdown());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) lease_ms: u64,
    /// How many events it settles before it holds on to the rest.
    pub(super) settles: usize,
    pub(super) max: usize,
    /// By how many seconds its clock is ahead of the others'.
    #[serde(default)]
    pub(super) clock_ahead: i64,
}

/// What a member says, a line of JSON each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    Joined {},
    Delivered { id: String, attempt: u32 },
    Settled { id: String },
    Holding {},
}

impl Member {
    /// Reads what this process is to do as a member; none if it was not started as one.
    ///
    /// A member may be told that its clock is wrong: then Railbus's clock is, in this process, from
    /// here on. So it is called before the backend is opened.
    ///
    /// # Errors
    /// Returns a config error if the variable is there and malformed.
    pub fn from_env() -> Result<Option<Self>> {
        let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let malformed = |e| {
            let why = "the suite's order to its member is malformed";
            Error::new(ErrorKind::Config, "conformance", why).with("variable", VARIABLE).because(e)
        };
        let member: Self = serde_json::from_str(&text.to_string_lossy()).map_err(malformed)?;
        if member.clock_ahead != 0 {
            clock::set_ahead(member.clock_ahead.saturating_mul(1_000_000));
        }
        Ok(Some(member))
    }

    /// Joins the group on `backend` and says on `out` what happens; returns when standard input
    /// ends.
    ///
    /// # Errors
    /// Returns what the backend says, or an error if nobody reads `out` any more.
    pub async fn run(self, backend: Arc<dyn Backend>, mut out: impl Write + Send) -> Result<()> {
        let left = parent();
        let working = self.work(&*backend, &mut out);
        tokio::select! {
            worked = working => worked,
            _ = left => Ok(()),
        }
    }

    async fn work(mut self, backend: &dyn Backend, out: &mut (impl Write + Send)) -> Result<()> {
        let clause = Clause { event_type: None, topic: Some(self.topic.clone()) };
        let source = backend
            .subscribe(Subscribe {
                group: Some(self.group.clone()),
                interest: Interest(vec![clause]),
                start: Start::Newest,
                lease: Duration::from_millis(self.lease_ms),
                order: Default::default(),
            })
            .await?;
        say(out, &Said::Joined {})?;
        loop {
            let mut holds = false;
            for leased in source.fetch(self.max).await? {
                let id = leased.event.map_err(|poison| poison.error)?.id().to_owned();
                say(out, &Said::Delivered { id: id.clone(), attempt: leased.attempt })?;
                if self.settles == 0 {
                    holds = true;
                    continue;
                }
                self.settles -= 1;
                let ack = [Settle::new(leased.receipt, Verdict::Ack)];
                source.settle(&ack).await.into_iter().collect::<Result<()>>()?;
                say(out, &Said::Settled { id })?;
            }
            if holds {
                say(out, &Said::Holding {})?;
                return std::future::pending().await;
            }
        }
    }
}

/// Returns when standard input ends: when the suite does.
fn parent() -> oneshot::Receiver<()> {
    let (gone, left) = oneshot::channel();
    thread::spawn(move || {
        let mut rest = Vec::new();
        // Whatever ends it, nobody is there any more.
        let _ = std::io::stdin().read_to_end(&mut rest);
        let _ = gone.send(());
    });
    left
}

fn say(out: &mut impl Write, said: &Said) -> Result<()> {
    let line = serde_json::to_string(said).unwrap_or_default();
    let gone = |e| Error::new(ErrorKind::Closed, "conformance", "nobody listens").because(e);
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(gone)
}

/// The suite's side of a member: killed when it is dropped.
pub(super) struct Process {
    child: Child,
    said: mpsc::UnboundedReceiver<Said>,
}

impl Process {
    /// Starts the process; what it prints besides is ignored.
    pub(super) fn start(mut command: Command, member: &Member) -> Checked<Self> {
        let order = serde_json::to_string(member).unwrap_or_default();
        command.env(VARIABLE, order).stdin(Stdio::piped()).stdout(Stdio::piped());
        let failed = |e| Broken::new(format!("a member can't be started: {e}"));
        let mut child = command.spawn().map_err(failed)?;
        let (says, said) = mpsc::unbounded_channel();
        if let Some(out) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(std::io::Result::ok) {
                    // A test's harness may have begun the line.
                    let start = line.find('{').unwrap_or(0);
                    if let Ok(said) = serde_json::from_str(&line[start..])
                        && says.send(said).is_err()
                    {
                        return;
                    }
                }
            });
        }
        Ok(Self { child, said })
    }

    /// Returns what it says next; none once it has ended.
    pub(super) async fn next(&mut self) -> Option<Said> {
        self.said.recv().await
    }

    /// Kills it at once (SIGKILL), and waits until it is gone.
    pub(super) fn kill(&mut self) {
        // One that has ended by itself can't be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
