//! S4: from a publish to a handler in another process, and what that process costs when idle.

use crate::{
    listener::clock,
    order::event,
    raw::Raw,
    store::{Place, Sync},
};
use harness::{Failed, Goal, Result, Row, Samples, Sheet};
use railbus::Bus;
use std::{
    env,
    io::{BufRead, BufReader, Lines, Write},
    os::unix::net::UnixDatagram,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};
use tokio::runtime::Builder;

/// How many events a round sends, and how far apart: 500 a second, whatever becomes of them.
const EVENTS: usize = 250;
const EVERY: Duration = Duration::from_millis(2);

/// How long a process is left alone for its idle time to be taken.
const IDLE: Duration = Duration::from_secs(2);

/// A process that listens.
struct Listener {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Listener {
    fn start(kind: &str, place: &str) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["listen", kind, place]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { return Err("no pipes".into()) };
        let mut listener = Self { child, input, output: BufReader::new(output).lines() };
        match &*listener.line()? {
            "ready" => Ok(listener),
            other => Err(format!("the listener said {other}").into()),
        }
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.output.next().ok_or("the listener ended")??)
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.input, "{question}")?;
        self.line()
    }

    /// Returns what a round's events took, sorted; all must have come, each once.
    fn taken(&mut self) -> Result<Vec<f64>> {
        let mut taken = Vec::new();
        for _ in 0..100 {
            let told = self.ask("taken")?;
            for nanos in told.split_whitespace() {
                taken.push(nanos.parse()?);
            }
            if taken.len() >= EVENTS {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        if taken.len() != EVENTS {
            return Err(format!("{} events arrived instead of {EVENTS}", taken.len()).into());
        }
        taken.sort_by(f64::total_cmp);
        Ok(taken)
    }

    /// Returns the processor's nanoseconds a second while nothing happens.
    fn idle(&mut self) -> Result<f64> {
        let before: f64 = self.ask("cpu")?.parse()?;
        thread::sleep(IDLE);
        let after: f64 = self.ask("cpu")?.parse()?;
        Ok((after - before) / IDLE.as_secs_f64())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The median and the 99th percentile of each round.
#[derive(Default)]
struct Quantiles {
    half: Vec<f64>,
    most: Vec<f64>,
}

impl Quantiles {
    fn add(&mut self, sorted: &[f64]) {
        let at = |share: usize| sorted.get(sorted.len() * share / 100).copied();
        self.half.extend(at(50));
        self.most.extend(at(99));
    }
}

pub(crate) fn measure(sheet: &mut Sheet) -> Result<()> {
    let (shared, alone) = (Place::new()?, Place::new()?);
    let socket = alone.file().with_extension("sock").display().to_string();
    let (url, live) = (shared.url(Sync::Full), Place::new()?);
    let mut pinged = Listener::start("socket", &socket)?;
    let mut group = Listener::start("group", &url)?;
    let mut broadcast = Listener::start("broadcast", &live.url(Sync::Full))?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let bus = runtime.block_on(shared.bus(Sync::Full))?;
    let other = runtime.block_on(live.bus(Sync::Full))?;
    let bell = UnixDatagram::unbound()?;
    bell.connect(&socket)?;
    let mut raw = Raw::open(&alone, Sync::Full)?;
    let mut all: [Quantiles; 4] = Default::default();
    for _ in 0..sheet.settings().rounds {
        let ping = async || {
            bell.send(&clock().to_le_bytes())?;
            Ok(())
        };
        runtime.block_on(paced(ping))?;
        all[0].add(&pinged.taken()?);
        let insert = async || {
            let sent = clock();
            raw.insert(1, &[b'x'; 300])?;
            bell.send(&sent.to_le_bytes())?;
            Ok(())
        };
        runtime.block_on(paced(insert))?;
        all[1].add(&pinged.taken()?);
        runtime.block_on(open_loop(&bus))?;
        all[2].add(&group.taken()?);
        runtime.block_on(open_loop(&other))?;
        all[3].add(&broadcast.taken()?);
    }
    let row = |work, nanos, of: fn(&Quantiles) -> Vec<f64>| {
        let row = Row::new("S4", work, Goal::Nanos(nanos));
        let row = row.told(Samples::base("datagram socket", of(&all[0])));
        let row = row.told(Samples::peer("raw insert, then datagram", of(&all[1])));
        let row = row.told(Samples::subject("railbus, a group", of(&all[2])));
        row.told(Samples::subject("railbus, a broadcast", of(&all[3])))
    };
    let half = "publish to handler in another process at 500/s, p50; FULL";
    sheet.measure(row(half, 300_000.0, |q| q.half.clone()))?;
    let most = "publish to handler in another process at 500/s, p99; FULL";
    sheet.measure(row(most, 1_000_000.0, |q| q.most.clone()))?;
    let mut idle = Vec::new();
    // What still looks out for more after the last event is not idle yet.
    thread::sleep(IDLE);
    for _ in 0..5 {
        idle.push(group.idle()?);
    }
    let work = "processor time of an idle listener, a second";
    let row = Row::new("S4", work, Goal::Nanos(1_000_000.0));
    sheet.measure(row.told(Samples::subject("railbus, a group", idle)))
}

/// Does something at each tick.
async fn paced(mut work: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let mut ticks = tokio::time::interval(EVERY);
    for _ in 0..EVENTS {
        ticks.tick().await;
        work().await?;
    }
    Ok(())
}

/// Publishes at each tick, whether or not what came before is confirmed.
async fn open_loop(bus: &Bus) -> Result<()> {
    let mut running = Vec::new();
    paced(async || {
        let (bus, event) = (bus.clone(), event(clock()));
        running.push(tokio::spawn(async move { bus.publish(event).await }));
        Ok(())
    })
    .await?;
    for published in running {
        published.await??;
    }
    Ok::<_, Failed>(())
}
