//! What can be done to the server that a store is on.

use crate::error::{Error, ErrorKind, Result};
use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a command may take to do what it is told.
const WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether a command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the suite does to a server; more may be added.
///
/// # Examples
/// ```
/// use railbus::conformance::{Control, Target};
///
/// let target = Target::url("memory:")?.control(|order: Control| Box::pin(async move {
///     println!("the server is to {}", order.name());
///     Ok(())
/// }));
/// # Ok::<(), railbus::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    /// Start it, in the place and with the data it had.
    Start,
    /// Stop it in order.
    Stop,
    /// Kill it at once (SIGKILL).
    Kill,
    /// Let it stand still (SIGSTOP).
    Pause,
    /// Let it go on (SIGCONT).
    Resume,
}

impl Control {
    /// Returns the word that a command is called with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }

    /// Returns what has a server run again after this, if it doesn't then.
    pub(super) fn undone_by(self) -> Option<Self> {
        match self {
            Self::Stop | Self::Kill => Some(Self::Start),
            Self::Pause => Some(Self::Resume),
            Self::Start | Self::Resume => None,
        }
    }
}

/// Returns what calls a program, or where there is no file of that name and the text has several words,
/// a command with arguments of its own.
fn command(program: &Path) -> Command {
    let text = program.as_os_str();
    if program.is_file() || !text.as_encoded_bytes().contains(&b' ') {
        return Command::new(program);
    }
    let mut command = Command::new("/bin/sh");
    let mut line = text.to_owned();
    line.push(" \"$@\"");
    command.arg("-c").arg(line).arg("railbus");
    command
}

/// Calls `program` with the order as its last argument, and waits until it has done so.
pub(super) async fn call(program: Arc<Path>, order: Control) -> Result<()> {
    let failed = move |why: String| {
        Error::new(ErrorKind::Unavailable, "conformance", why).with("order", order.name()).hint(
            "it is a program, or a command with arguments of its own as the shell reads it, which is \
             called with start, stop, kill, pause or resume as its last argument, and exits with 0",
        )
    };
    let name = program.display().to_string();
    let calling = tokio::task::spawn_blocking(move || {
        let mut command = command(&program);
        command.arg(order.name()).stdin(Stdio::null()).stdout(Stdio::null());
        // Ctrl-C is for this program, which then has the server put back: neither what is being done
        // to it nor a server that was started here ends of it.
        command.process_group(0);
        let mut child = command.spawn()?;
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if began.elapsed() > WITHIN {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    });
    let status: std::io::Result<_> =
        calling.await.map_err(|e| failed(format!("`{name}` was not called")).because(e))?;
    match status.map_err(|e| failed(format!("`{name}` can't be called")).because(e))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("`{name}` ended with {status}"))),
        None => Err(failed(format!("`{name}` took longer than {WITHIN:?}"))),
    }
}
