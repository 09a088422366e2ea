//! A worker: it says hello, and runs one task after another until its program is gone.

use super::{
    channel::Channel,
    log::{Log, Wanted},
};
use crate::{
    cancel::Cancel,
    context::Context,
    executor::Task,
    executors::processes::{
        Registry,
        message::{TaskHead, answer, store},
        register,
        wire::{Frame, Hello, Kind, NAME, PROTOCOL, Setup, build},
    },
    step::{Exception, StepError, StepResult},
};
use bytes::BytesMut;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::{
    env,
    ffi::OsStr,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    process::exit,
    sync::Arc,
    thread,
};
use tokio::runtime::{Builder, Runtime};

/// As much as the main thread has on most systems.
const STACK: usize = 8 << 20;

/// Names the steps that may run in processes, and becomes a worker where the program was started as
/// one: then it never returns.
///
/// It stands first in `main`, before anything is printed and before a runtime is started, and is
/// given the same steps however the program is run;
/// [`#[railbus::main(steps = ..)]`](crate::main) does so. Once is enough: what is given later is
/// ignored. A subscriber for log lines that is installed before is the worker's too.
///
/// A worker is named `railbus-worker` in the list of processes and reads no arguments of the
/// program's.
///
/// # Examples
/// ```
/// use railbus::{Steps, step, worker};
///
/// #[step]
/// fn double(n: i64) -> i64 {
///     2 * n
/// }
///
/// fn main() {
///     worker::init(Steps::new().add(double));
///     // The program itself goes on here.
/// }
/// ```
pub fn init(steps: impl Into<Registry>) {
    let registry = register(steps.into());
    let mut arguments = env::args_os();
    if arguments.next().is_some_and(|name| name == NAME) {
        let setup = arguments.next().unwrap_or_default();
        exit(match serve(&setup, registry) {
            Ok(()) => 0,
            Err(error) => {
                // Nobody could be told that stderr is closed.
                let _ = writeln!(io::stderr(), "error: the worker can't go on: {error}");
                1
            }
        });
    }
}

fn serve(setup: &OsStr, registry: &'static Registry) -> io::Result<()> {
    let channel = Arc::new(Channel::take()?);
    let setup: Setup =
        setup.to_str().and_then(|s| serde_json::from_str(s).ok()).unwrap_or_default();
    if let Some(bytes) = setup.memory_limit {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        setrlimit(Resource::As, limit)?;
    }
    let problem = registry.problem().map(ToString::to_string);
    let hello = Hello { protocol: PROTOCOL, build: build().into(), problem };
    let hello = Frame::write(Kind::Hello, &hello, []).map_err(io::Error::other)?;
    let wanted = Log::install(Arc::clone(&channel));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let worker = Worker { channel: Arc::clone(&channel), registry, runtime, wanted };
    channel.write(&hello)?;
    // On a thread of its own: this one may be inside a runtime, and it watches for the end of the
    // program, which ends the process even while a step runs.
    let work = thread::Builder::new().name(NAME.into()).stack_size(STACK);
    work.spawn(move || exit(i32::from(worker.work().is_err())))?;
    channel.closed();
    Ok(())
}

struct Worker {
    channel: Arc<Channel>,
    registry: &'static Registry,
    runtime: Runtime,
    wanted: Wanted,
}

impl Worker {
    fn work(&self) -> io::Result<()> {
        let (mut read, mut block) = (BytesMut::new(), vec![0; 65_536]);
        loop {
            while let Some(frame) = Frame::take(&mut read).map_err(io::Error::other)? {
                let came = self.run(frame);
                // What was printed without an end of line.
                let _ = io::stdout().flush();
                self.channel.write(&answer(&came))?;
            }
            match self.channel.read(&mut block)? {
                0 => return Ok(()),
                count => read.extend_from_slice(&block[..count]),
            }
        }
    }

    fn run(&self, mut frame: Frame) -> StepResult {
        let refuse = |why: String| StepError::Exception(Exception::new("worker", why));
        let head: TaskHead = frame.header().map_err(refuse)?;
        let TaskHead { step: name, event, attempt, step_try, context, level } = head;
        self.wanted.set(level);
        let unknown = || {
            refuse(format!("the worker knows no step `{name}`: worker::init got other steps here"))
        };
        let step = Arc::clone(self.registry.get(&name).ok_or_else(unknown)?);
        let task = Task {
            name: name.into(),
            step,
            signature: Arc::default(),
            event,
            store: Arc::new(store(std::mem::take(&mut frame.parts))),
            bindings: Arc::default(),
            states: Arc::clone(&self.registry.states),
            attempt,
            step_try,
            context: Context::arrive(context),
            cancel: Cancel::new(),
        };
        let run = || task.block(Some(self.runtime.handle()));
        catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Err(StepError::Exception(Exception::panicked(&*panic))))
    }
}
