//! One worker: a child that is given one task at a time.

use super::{
    frame::{self, Bad},
    task::{Ask, answered},
};
use crate::{
    guardian::Tail,
    step::StepResult,
    steps::child::{Child, End, Limits, read_tail},
};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::BufReader,
    process::{ChildStdin, ChildStdout, Command},
    runtime::{Handle, Id},
    task::{JoinHandle, yield_now},
    time::timeout,
};

/// How long a worker may take to end once its stdin has.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// How often others may go on while what a worker said before is read.
const LISTENS_MAX: u32 = 64;

/// How long what a worker said last may take to arrive.
const GRACE: Duration = Duration::from_millis(250);

pub(super) struct Hand {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: Arc<Mutex<Tail>>,
    listening: JoinHandle<()>,
    // Another end of its stderr, to look whether something waits there.
    errors: OwnedFd,
    // Its pipes belong to the runtime that started it.
    runtime: Id,
    pub(super) tasks: u32,
}

/// What became of a worker that did not answer: it can't be used any more.
pub(in crate::steps) enum Broke {
    Ended(End),
    /// It answered what is no answer.
    Garbage(String),
}

impl Hand {
    /// Starts a worker.
    pub(super) async fn start(command: &mut Command) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let mut child = Child::spawn(command).await?;
        let (stdin, stdout, errors) = child.pipes();
        let stdout = stdout.ok_or_else(|| io::Error::other("the child has no stdout"))?;
        let stderr = Arc::<Mutex<Tail>>::default();
        let errors = errors.ok_or_else(|| io::Error::other("the child has no stderr"))?;
        let other_end = errors.as_fd().try_clone_to_owned()?;
        let into = Arc::clone(&stderr);
        let listening = runtime.spawn(read_tail(Some(errors), move |said| {
            into.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        }));
        let (runtime, stdout) = (runtime.id(), BufReader::new(stdout));
        Ok(Self { child, stdin, stdout, stderr, listening, errors: other_end, runtime, tasks: 0 })
    }

    /// Returns what waits for its end, without reaping it.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.child.ended()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.child.has_ended()
    }

    /// Tells whether it can be given a task: it lives, belongs to this runtime, and says nothing
    /// that it was not asked.
    pub(super) fn is_ready(&self, runtime: Id) -> bool {
        // Anything to read is the end, or noise.
        let is_silent = self.stdout.buffer().is_empty() && !waits_in(self.stdout.get_ref());
        runtime == self.runtime && is_silent && !self.has_ended()
    }

    /// Gives it a task and waits for the answer.
    ///
    /// # Cancel safety
    /// If it is dropped, the worker must be dropped as well.
    pub(super) async fn work(
        &mut self,
        mut ask: Ask<'_>,
        limits: Limits,
    ) -> Result<StepResult, Broke> {
        self.tasks += 1;
        ask.id = u64::from(self.tasks);
        // What it said before belongs to another task; what never ends is of all.
        for _ in 0..LISTENS_MAX {
            if self.listening.is_finished() || !waits_in(&self.errors) {
                break;
            }
            yield_now().await;
        }
        let _ = self.said();
        let text = serde_json::to_vec(&ask).map_err(|e| Broke::Garbage(e.to_string()))?;
        let talk = talk(self.stdin.as_mut(), &mut self.stdout, &text, limits.output_max);
        let read = match timeout(limits.timeout, talk).await {
            Ok(read) => read,
            Err(_) => return Err(Broke::Ended(End::Timeout)),
        };
        match read {
            Ok(text) => answered(&text, ask.id).map_err(Broke::Garbage),
            // Text, read as a length, is more than a hundred megabytes.
            Err(Bad::TooMuch(head)) if is_text(&head) => {
                let head = String::from_utf8_lossy(&head);
                let why = format!("wrote to stdout what is no frame: it starts {head:?}");
                Err(Broke::Garbage(why))
            }
            Err(Bad::TooMuch(_)) => Err(Broke::Ended(End::TooMuch)),
            Err(Bad::Cut) => Err(self.gone("wrote half a frame").await),
            Err(Bad::End) => Err(self.gone("closed its stdout").await),
        }
    }

    /// Tells how it ended; `otherwise` if it did not.
    async fn gone(&mut self, otherwise: &str) -> Broke {
        match timeout(GRACE, self.child.ended()).await {
            Ok(()) => Broke::Ended(self.child.reap().await),
            Err(_) => Broke::Garbage(otherwise.to_owned()),
        }
    }

    /// Returns the tail of what it said on stderr since it was last asked, and forgets it.
    fn said(&self) -> Tail {
        std::mem::take(&mut *self.stderr.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Kills it; returns the tail of what it said on stderr.
    pub(super) async fn kill(mut self) -> String {
        self.child.kill();
        let _ = timeout(GRACE, &mut self.listening).await;
        self.said().text()
    }

    /// Lets it end by itself, in the background: its stdin ends, and a little later it is killed.
    pub(super) fn retire(mut self) {
        self.stdin = None;
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(ENDS_WITHIN, self.child.ended()).await;
                drop(self);
            });
        }
    }
}

/// Tells whether there is something to read in a pipe, its end included. The runtime learns of it
/// only when it looks the next time.
fn waits_in(pipe: &impl AsFd) -> bool {
    let mut looked = [PollFd::new(pipe, PollFlags::IN)];
    rustix::event::poll(&mut looked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
}

fn is_text(head: &[u8]) -> bool {
    head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
}

/// Says a task and hears the answer, which may come before the task was read to its end.
async fn talk(
    stdin: Option<&mut ChildStdin>,
    stdout: &mut BufReader<ChildStdout>,
    text: &[u8],
    max: usize,
) -> Result<Vec<u8>, Bad> {
    let mut say = pin!(async {
        if let Some(stdin) = stdin {
            // If it reads no more, its stdout tells why.
            let _ = frame::write(stdin, text).await;
        }
    });
    let mut hear = pin!(frame::read(stdout, max));
    tokio::select! {
        () = &mut say => hear.await,
        // The rest of the task would be taken for the next one.
        heard = &mut hear => heard.and(Err(Bad::Cut)),
    }
}
