//! The other process of S4: it listens, and says on demand how long events took to reach it.

use crate::order::{Order, TYPE};
use harness::{Failed, Result, processor};
use railbus::{Bus, Payload};
use rustix::time::{ClockId, clock_gettime};
use std::{
    io::{self, BufRead, Write},
    os::unix::net::UnixDatagram,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
};
use tokio::runtime::Builder;

/// What the events took so far, in nanoseconds.
type Taken = Arc<Mutex<Vec<u64>>>;

/// Returns a time that all processes of the machine share.
pub(crate) fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Listens until its input ends: to a socket, or as a bus, in a group or to broadcasts.
pub(crate) fn run(kind: &str, place: &str) -> ExitCode {
    let taken = Taken::default();
    let listening = match kind {
        "socket" => listen_to_socket(place, Arc::clone(&taken)),
        "group" => listen_as_bus(place, Some("g"), Arc::clone(&taken)),
        _ => listen_as_bus(place, None, Arc::clone(&taken)),
    };
    match listening.and_then(|()| answer(&taken)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn note(taken: &Taken, sent: u64) {
    let took = clock().saturating_sub(sent);
    taken.lock().unwrap_or_else(PoisonError::into_inner).push(took);
}

fn listen_to_socket(place: &str, taken: Taken) -> Result<()> {
    let socket = UnixDatagram::bind(place)?;
    thread::spawn(move || {
        let mut bytes = [0; 8];
        while socket.recv(&mut bytes).is_ok() {
            note(&taken, u64::from_le_bytes(bytes));
        }
    });
    Ok(())
}

fn listen_as_bus(url: &str, group: Option<&'static str>, taken: Taken) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let bus = runtime.block_on(async {
        let bus = Bus::open(url).await?;
        let handler = move |order: Payload<Order>| note(&taken, order.number);
        match group {
            Some(group) => bus.on(TYPE).group(group).run(handler).await?,
            None => bus.on(TYPE).run(handler).await?,
        };
        Ok::<_, Failed>(bus)
    })?;
    thread::spawn(move || {
        runtime.block_on(std::future::pending::<()>());
        drop(bus);
    });
    Ok(())
}

/// Answers each line: `cpu` with the processor time so far, `taken` with what the events took.
fn answer(taken: &Taken) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "ready")?;
    for line in io::stdin().lock().lines() {
        if line? == "cpu" {
            writeln!(output, "{}", processor().as_nanos())?;
        } else {
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            let told: Vec<_> = taken.drain(..).map(|nanos| nanos.to_string()).collect();
            writeln!(output, "{}", told.join(" "))?;
        }
        output.flush()?;
    }
    Ok(())
}
