//! A child process in a group of its own: spoken to, listened to within limits, and never left
//! over.

use crate::guardian::{MARK, Tail, Ward};
use bytes::Bytes;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::{
    io,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child as Process, ChildStderr, ChildStdin, ChildStdout, Command},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// How long the pipes may stay open once the child is gone: whoever holds them is not waited for.
const GRACE: Duration = Duration::from_millis(250);

/// How often to look for the end of a child where the system's signals can't be listened to.
const POLL: Duration = Duration::from_millis(50);

/// How often a program file that is being written is tried again, at doubling intervals.
const BUSY_TRIES: u32 = 6;

/// Looks at a child's end, without waiting for it and without reaping it.
const UNREAPED: WaitIdOptions =
    WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);

/// The limits of a conversation with a child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
    pub(super) output_max: usize,
}

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum End {
    Exit(ExitStatus),
    Timeout,
    TooMuch,
    Broken(io::Error),
}

/// What a child said, and how it ended.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) end: End,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Tail,
}

/// A running child. Dropping it kills its whole group.
#[derive(Debug)]
pub(super) struct Child {
    // Dropped first: the group must be killed before its leader is reaped.
    ward: Ward,
    process: Process,
    pid: Pid,
}

impl Child {
    /// Starts `command` in a group of its own, with pipes.
    pub(super) async fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut ward = Ward::announce()?;
        command.env(MARK, ward.mark()).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = spawn_when_written(command).await?;
        let pid = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let Some(pid) = pid else {
            process.start_kill()?;
            return Err(io::Error::other("the child has no process id"));
        };
        ward.started(pid)?;
        Ok(Self { ward, process, pid })
    }

    /// Takes the ends of its pipes: stdin, stdout and stderr.
    pub(super) fn pipes(
        &mut self,
    ) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        let Self { process, .. } = self;
        (process.stdin.take(), process.stdout.take(), process.stderr.take())
    }

    /// Returns what waits for its end and leaves it unreaped.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        ended(self.pid)
    }

    /// Tells whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(waitid(WaitId::Pid(self.pid), UNREAPED), Ok(None))
    }

    /// Kills its whole group.
    pub(super) fn kill(&self) {
        self.ward.kill();
    }

    /// Kills what is left of its group, now that it has ended, and tells how.
    pub(super) async fn reap(&mut self) -> End {
        self.ward.let_go();
        self.process.wait().await.map_or_else(End::Broken, End::Exit)
    }

    /// Gives the child `input`, waits for its end, and kills what is left of its group.
    ///
    /// # Cancel safety
    /// If it is dropped, the whole group is killed.
    pub(super) async fn converse(mut self, input: Bytes, limits: Limits) -> Heard {
        let (mut stdout, mut stderr) = (Vec::new(), Tail::default());
        let talk = self.talk(input, limits.output_max, &mut stdout, &mut stderr);
        let said = timeout(limits.timeout, talk).await;
        let Self { ward, mut process, .. } = self;
        drop(ward);
        let end = match said {
            // It has ended; this only reaps it.
            Ok(Ok(())) => process.wait().await.map_or_else(End::Broken, End::Exit),
            // Reaped in the background: a killed process may take its time.
            Ok(Err(TooMuch)) => End::TooMuch,
            Err(_) => End::Timeout,
        };
        Heard { end, stdout, stderr }
    }

    async fn talk(
        &mut self,
        input: Bytes,
        max: usize,
        stdout: &mut Vec<u8>,
        stderr: &mut Tail,
    ) -> Result<(), TooMuch> {
        let (out, err) = (self.process.stdout.take(), self.process.stderr.take());
        let mut feed = pin!(feed(self.process.stdin.take(), input));
        let ward = &self.ward;
        let mut listen = pin!(async {
            let mut out = pin!(read_all(out, stdout, max));
            let mut err = pin!(read_tail(err, |said| stderr.push(said)));
            let heard = tokio::select! {
                heard = &mut out => heard,
                () = &mut err => return out.await,
            };
            match heard {
                Ok(()) => err.await,
                // What it said of that before is still in the pipe.
                Err(TooMuch) => {
                    ward.kill();
                    let _ = timeout(GRACE, err).await;
                }
            }
            heard
        });
        let mut ended = pin!(ended(self.pid));
        let (mut is_fed, mut is_heard) = (false, false);
        loop {
            tokio::select! {
                () = &mut feed, if !is_fed => is_fed = true,
                said = &mut listen, if !is_heard => {
                    said?;
                    is_heard = true;
                }
                () = &mut ended => break,
            }
        }
        if is_heard {
            return Ok(());
        }
        if let Ok(said) = timeout(GRACE, &mut listen).await {
            return said;
        }
        // Left-over processes hold the pipes. One that left the group keeps them open even now.
        ward.kill();
        timeout(GRACE, &mut listen).await.unwrap_or(Ok(()))
    }
}

/// The child said more than it may.
#[derive(Clone, Copy)]
struct TooMuch;

/// Starts the command, again if its file is still open for writing, as it is while being
/// installed.
async fn spawn_when_written(command: &mut Command) -> io::Result<Process> {
    let mut pause = Duration::from_millis(10);
    for _ in 1..BUSY_TRIES {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            other => return other,
        }
    }
    command.spawn()
}

/// Waits for the end of a child and leaves it unreaped, so that its number stays its own.
async fn ended(pid: Pid) {
    // Listened to before the first look, so that no end is missed.
    let mut signals = signal(SignalKind::child()).ok();
    while let Ok(None) = waitid(WaitId::Pid(pid), UNREAPED) {
        match &mut signals {
            Some(signals) => drop(signals.recv().await),
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// Writes the input; a child need not read it.
async fn feed(stdin: Option<ChildStdin>, input: Bytes) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&input).await;
    }
}

async fn read_all(
    pipe: Option<impl AsyncRead + Unpin>,
    into: &mut Vec<u8>,
    max: usize,
) -> Result<(), TooMuch> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    loop {
        into.reserve(8192);
        // A pipe that breaks has nothing more to say.
        match pipe.read_buf(into).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) if into.len() > max => return Err(TooMuch),
            Ok(_) => {}
        }
    }
}

/// Reads to the end what is not limited, block by block.
pub(super) async fn read_tail(pipe: Option<impl AsyncRead + Unpin>, mut into: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut block = vec![0; 8192];
    loop {
        match pipe.read(&mut block).await {
            Ok(0) | Err(_) => return,
            Ok(read) => into(&block[..read]),
        }
    }
}
