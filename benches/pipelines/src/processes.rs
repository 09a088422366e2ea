//! P5: a step in a worker process, beside a child that sends back what it gets.

use harness::{Contender, Goal, Result, Row, Sheet, timed};
use railbus::{Pipeline, Status, Steps, executors::Processes, step, store};
use std::{
    env,
    hint::black_box,
    io::{Read, Write, stdin, stdout},
    process::{Child, Command, ExitCode, Stdio},
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

pub(crate) fn one(sheet: &mut Sheet) -> Result<()> {
    let mut child = Command::new(env::current_exe()?);
    child.arg(ECHO).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Ends(child.spawn()?);
    let floor = Contender::base("a bare pipe", move |times| {
        let (to, from) = (child.0.stdin.as_mut(), child.0.stdout.as_mut());
        let (Some(to), Some(from)) = (to, from) else {
            return Err("the child has no pipes".into());
        };
        let mut frame = [7; FRAME];
        timed(|| {
            for _ in 0..times {
                to.write_all(black_box(&frame))?;
                from.read_exact(&mut frame)?;
            }
            Ok(times)
        })
    });
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let step = railbus::IntoStep::executor(next, Processes::new(1));
    let pipeline = Pipeline::new("p").step(step).build()?;
    let ours = Contender::subject("railbus", move |times| {
        timed(|| {
            runtime.block_on(async {
                for n in 0..times {
                    let report = black_box(pipeline.run(store! { "n" => n }).await);
                    if report.status() != Status::Success {
                        return Err("a run did not succeed".into());
                    }
                }
                Ok(times)
            })
        })
    });
    let row = Row::new("P5", "a step in a worker process", Goal::Times(1.3));
    sheet.measure(row.with(floor).with(ours))
}
