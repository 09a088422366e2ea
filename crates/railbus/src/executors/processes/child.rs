//! One worker process, as its program sees it.

use super::{
    message::LogHead,
    pipe::{PIECE_MAX, Pipe},
    wire::{Frame, Hello, Kind, NAME, PROTOCOL, Setup, build, to_start},
};
use crate::guardian::{MARK, Tail, Ward};
use bytes::{BufMut, BytesMut};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use std::{
    io,
    io::{BufRead, BufReader, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    net::unix::pipe::{Receiver, Sender},
    sync::oneshot,
};

/// How long an ending worker may take to end, and the end of what it wrote to come in.
const GRACE: Duration = Duration::from_millis(250);

/// How often a worker that is ending is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Enough for a thread that only waits.
const STACK: usize = 128 << 10;

/// A running worker. Dropping it kills its whole group, and reaps it.
#[derive(Debug)]
pub(super) struct Worker {
    stdin: Pipe<Sender>,
    stdout: Pipe<Receiver>,
    read: BytesMut,
    block: Box<[u8]>,
    process: Process,
    // Whether it can be given short tasks ahead, and those that it has not begun be taken back.
    in_pieces: bool,
    pub(super) tasks_left: Option<usize>,
    // How long a task took of late, as far as it is known.
    pub(super) pace: Option<Duration>,
}

impl Worker {
    /// Starts the program once more, as a worker.
    /// `ended` is called when it has ended, if that is before it is reaped.
    pub(super) fn start(
        memory_limit: Option<u64>,
        tasks: Option<usize>,
        ended: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let setup = Setup { protocol: PROTOCOL, build: build().into(), memory_limit };
        let mut ward = Ward::announce()?;
        let mut command = Command::new(to_start().ok_or(io::ErrorKind::NotFound)?);
        command.arg0(NAME).arg(serde_json::to_string(&setup)?).env(MARK, ward.mark());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the worker has no process id"))?;
        let watched = ward.started(pid);
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let said = Arc::<Mutex<Tail>>::default();
        let (heard, is_reaped) = Default::default();
        let process = Process { ward: Some(ward), child: Some(child), pid, heard, said, is_reaped };
        watched?;
        process.watch(ended)?;
        let process = process.listen(stderr)?;
        let missing = || io::Error::other("the worker has no pipes");
        let stdin = OwnedFd::from(stdin.ok_or_else(missing)?);
        let stdout = OwnedFd::from(stdout.ok_or_else(missing)?);
        let (stdin, stdout) = (Pipe::new(stdin)?, Pipe::new(stdout)?);
        let (read, block) = (BytesMut::new(), vec![0; 65_536].into());
        let (in_pieces, pace) = (stdin.in_pieces(), None);
        Ok(Self { stdin, stdout, read, block, process, in_pieces, tasks_left: tasks, pace })
    }

    /// Waits until it says that it is a worker of this very program.
    ///
    /// # Errors
    /// Returns why it is none.
    pub(super) async fn greet(&mut self) -> Result<(), Broken> {
        let frame = self.next().await?;
        let hello: Hello = match frame.kind {
            Kind::Hello => frame.header().map_err(Broken::Garbage)?,
            _ => return Err(Broken::Garbage("it said no hello".into())),
        };
        if let Some(problem) = hello.problem {
            return Err(Broken::Refused(problem));
        }
        if (hello.protocol, hello.build.as_str()) == (PROTOCOL, build()) {
            return Ok(());
        }
        let why = "the program file is of another version than the program that runs \
                   (it was replaced since it started): start the program again";
        Err(Broken::Refused(why.into()))
    }

    /// Has it watched by this runtime.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.stdin.settle()?;
        self.stdout.settle()
    }

    /// Tells whether a task can be given to it ahead.
    pub(super) fn takes_ahead(&self, task: &[u8]) -> bool {
        self.in_pieces && task.len() <= PIECE_MAX
    }

    /// Tells whether it has ended; it is left unreaped.
    pub(super) fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Gives it a task, whatever its length.
    ///
    /// # Errors
    /// Returns that it is gone, and did not get the whole of it.
    ///
    /// # Cancel safety
    /// If this is dropped, it may have got a part of it.
    pub(super) async fn give(&mut self, task: &[u8]) -> Result<(), Broken> {
        self.forget_said();
        self.stdin.write(task).await.map_err(|_| Broken::Ended)
    }

    /// Gives it a short task ahead, if there is room; tells whether there was.
    pub(super) fn post(&mut self, task: &[u8]) -> bool {
        self.stdin.post(task)
    }

    /// Takes back what it has not begun: that many of the tasks that were given to it last, or
    /// any part of a long one; none where that can't be known.
    pub(super) fn take_back(&mut self) -> Option<usize> {
        self.stdin.take_back()
    }

    /// Forgets what it wrote to stderr: that was of another task.
    pub(super) fn forget_said(&self) {
        *self.process.said.lock().unwrap_or_else(PoisonError::into_inner) = Tail::default();
    }

    /// Returns the next message of what was read so far.
    pub(super) fn heard(&mut self) -> Result<Option<Frame>, Broken> {
        Frame::take(&mut self.read).map_err(Broken::Garbage)
    }

    /// Waits until it says more.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub(super) async fn listen(&mut self) -> Result<(), Broken> {
        let count = self.stdout.read(&mut self.block).await.unwrap_or(0);
        self.hear(count)
    }

    /// Reads what it said meanwhile; tells whether that was anything.
    pub(super) fn listen_now(&mut self) -> Result<bool, Broken> {
        match self.stdout.read_now(&mut self.block).unwrap_or(Some(0)) {
            Some(count) => self.hear(count).map(|()| true),
            None => Ok(false),
        }
    }

    fn hear(&mut self, count: usize) -> Result<(), Broken> {
        if count == 0 {
            return Err(Broken::Ended);
        }
        self.read.put_slice(&self.block[..count]);
        Ok(())
    }

    async fn next(&mut self) -> Result<Frame, Broken> {
        loop {
            match self.heard()? {
                Some(frame) => return Ok(frame),
                None => self.listen().await?,
            }
        }
    }

    /// Lets it end by itself, in the background.
    pub(super) fn retire(self) {
        let Self { stdin, stdout, process, .. } = self;
        // A worker ends with its input.
        drop((stdin, stdout));
        drop(process.reap(GRACE));
    }

    /// Ends it, and returns how it ended and the end of what it wrote to stderr.
    pub(super) async fn end(self) -> (Option<ExitStatus>, String) {
        let Self { stdin, stdout, process, .. } = self;
        drop((stdin, stdout));
        let said = Arc::clone(&process.said);
        let status = process.reap(GRACE).await.ok().flatten();
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        (status, std::mem::take(&mut *said).text())
    }
}

/// How a worker failed a task.
#[derive(Debug)]
pub(super) enum Broken {
    /// Its end of the pipe closed.
    Ended,
    /// It wrote what is no message.
    Garbage(String),
    /// It is no worker of this program.
    Refused(String),
}

/// The process, and what must be done about its end.
#[derive(Debug)]
struct Process {
    // Let go of first: the group must be killed before its leader is reaped.
    ward: Option<Ward>,
    child: Option<Child>,
    pid: Pid,
    heard: Option<mpsc::Receiver<()>>,
    said: Arc<Mutex<Tail>>,
    // Whether its number may be another's by now.
    is_reaped: Arc<Mutex<bool>>,
}

impl Process {
    /// Waits for its end, to kill what it leaves behind: that may hold its pipes open.
    fn watch(&self, ended: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (pid, is_reaped) = (self.pid, Arc::clone(&self.is_reaped));
        let wait = move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
            let is_reaped = is_reaped.lock().unwrap_or_else(PoisonError::into_inner);
            if !*is_reaped {
                // It fails if nobody is left.
                let _ = kill_process_group(pid, Signal::KILL);
            }
            drop(is_reaped);
            ended();
        };
        let thread = thread::Builder::new().name("railbus-watch".into()).stack_size(STACK);
        thread.spawn(wait).map(drop)
    }

    /// Passes on what it writes to stderr, line by line, and keeps the end of it.
    fn listen(mut self, stderr: Option<ChildStderr>) -> io::Result<Self> {
        let Some(stderr) = stderr else { return Ok(self) };
        let ((ended, end), said) = (mpsc::channel::<()>(), Arc::clone(&self.said));
        self.heard = Some(end);
        let pass_on = move || {
            let (mut lines, mut line) = (BufReader::new(stderr), Vec::new());
            while let Ok(1..) = lines.read_until(b'\n', &mut line) {
                said.lock().unwrap_or_else(PoisonError::into_inner).push(&line);
                // Nobody could be told that stderr is closed.
                let _ = io::stderr().write_all(&line);
                line.clear();
            }
            drop(ended);
        };
        thread::Builder::new().name("railbus-stderr".into()).spawn(pass_on)?;
        Ok(self)
    }

    /// Tells whether it has ended; it is left unreaped, so that its number stays its own.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// Waits for a while for its end, kills what is left of its group, and reaps it, on a thread
    /// of its own.
    fn reap(mut self, grace: Duration) -> oneshot::Receiver<Option<ExitStatus>> {
        let (tell, told) = oneshot::channel();
        let reap = move || {
            let until = Instant::now() + grace;
            while !self.has_ended() && Instant::now() < until {
                // sleep: nothing wakes one that waits for a child and a time, short of signals.
                thread::sleep(LOOK);
            }
            let status = self.finish();
            if let Some(heard) = self.heard.take() {
                // It only ends; whoever holds stderr open beyond that is not waited for.
                let _ = heard.recv_timeout(grace);
            }
            let _ = tell.send(status);
        };
        // If there is no thread to be had, what was given to it is dropped, which kills and reaps.
        drop(thread::Builder::new().name("railbus-reaper".into()).spawn(reap));
        told
    }

    /// From now on its number may become another's.
    fn let_go_of_number(&self) {
        *self.is_reaped.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Kills the group and reaps its leader.
    fn finish(&mut self) -> Option<ExitStatus> {
        drop(self.ward.take());
        self.let_go_of_number();
        self.child.take().and_then(|mut child| {
            // Where the group could not be killed.
            let _ = child.kill();
            child.wait().ok()
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(ward) = self.ward.take() {
            drop(ward);
        }
        let Some(mut child) = self.child.take() else { return };
        self.let_go_of_number();
        let _ = child.kill();
        if let Ok(None) = child.try_wait() {
            // Memory that is much takes a while to be given back.
            let wait = move || drop(child.wait());
            drop(thread::Builder::new().name("railbus-reaper".into()).spawn(wait));
        }
    }
}

/// Tells a log line of a worker, in the context of whoever waits for it.
pub(super) fn tell(line: &LogHead, step: &str) {
    let LogHead { level, target, message, fields } = line;
    let fields = serde_json::to_string(fields).unwrap_or_default();
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(target: "railbus::worker", step, from = target, fields, "{message}")
        };
    }
    match level {
        1 => tell!(error),
        2 => tell!(warn),
        3 => tell!(info),
        4 => tell!(debug),
        _ => tell!(trace),
    }
}
