//! P5: a step in a worker process, alone and 16 at once, beside a child that sends back what it gets.

use futures_util::future::try_join_all;
use harness::{Contender, Failed, Goal, Result, Row, Sheet, timed};
use railbus::{Pipeline, Status, Steps, executors::Processes, step, store};
use std::{
    env,
    hint::black_box,
    io::{Read, Write, stdin, stdout},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
};
use tokio::runtime::Builder;

/// The argument that makes this program the child of the base.
pub(crate) const ECHO: &str = "echo";

/// As many bytes as a small frame has.
const FRAME: usize = 64;

#[step]
fn next(n: u64) -> u64 {
    n + 1
}

pub(crate) fn steps() -> Steps {
    Steps::new().add(next)
}

/// Sends back every frame, until there is no more.
pub(crate) fn echo() -> ExitCode {
    let (mut from, mut to) = (stdin().lock(), stdout().lock());
    let mut frame = [0; FRAME];
    while from.read_exact(&mut frame).is_ok() {
        if to.write_all(&frame).and_then(|()| to.flush()).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// Ends the child with its owner.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // It fails only if the child has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ends {
    fn start() -> Result<Self> {
        let mut child = Command::new(env::current_exe()?);
        child.arg(ECHO).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(child.spawn()?))
    }

    fn pipes(&mut self) -> Result<(&mut ChildStdin, &mut ChildStdout)> {
        match (self.0.stdin.as_mut(), self.0.stdout.as_mut()) {
            (Some(to), Some(from)) => Ok((to, from)),
            _ => Err("the child has no pipes".into()),
        }
    }
}

pub(crate) fn alone(sheet: &mut Sheet) -> Result<()> {
    let mut child = Ends::start()?;
    let floor = Contender::base("a bare pipe", move |times| {
        let (to, from) = child.pipes()?;
        let mut frame = [7; FRAME];
        timed(|| {
            for _ in 0..times {
                to.write_all(black_box(&frame))?;
                from.read_exact(&mut frame)?;
            }
            Ok(times)
        })
    });
    let ours = ours("railbus", 1)?;
    let row = Row::new("P5", "a step in a worker process", Goal::Times(1.3));
    sheet.measure(row.with(floor).with(ours))
}

pub(crate) fn at_once(sheet: &mut Sheet) -> Result<()> {
    let mut child = Ends::start()?;
    let floor = Contender::base("a bare pipe, 16 at once", move |times| {
        let (to, from) = child.pipes()?;
        let mut frames = [7; 16 * FRAME];
        timed(|| {
            for first in (0..times).step_by(16) {
                let many = &mut frames[..FRAME * (times - first).min(16) as usize];
                to.write_all(black_box(many))?;
                from.read_exact(many)?;
            }
            Ok(times)
        })
    });
    let ours = ours("railbus, 16 at once", 16)?;
    let row = Row::new("P5-16", "16 steps at once in one worker process", Goal::Rate(0.75));
    sheet.measure(row.with(floor).with(ours))
}

/// So many runs at once, each of a step, by one worker.
fn ours(name: &'static str, at_once: u64) -> Result<Contender<'static>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let step = railbus::IntoStep::executor(next, Processes::new(1));
    let pipeline = Pipeline::new("p").step(step).build()?;
    Ok(Contender::subject(name, move |times| {
        let line = async |first: u64| {
            for n in (first..times).step_by(at_once as usize) {
                let report = black_box(pipeline.run(store! { "n" => n }).await);
                if report.status() != Status::Success {
                    return Err(Failed::from("a run did not succeed"));
                }
            }
            Ok(times.saturating_sub(first).div_ceil(at_once))
        };
        timed(|| {
            runtime.block_on(async { Ok(try_join_all((0..at_once).map(line)).await?.iter().sum()) })
        })
    }))
}
