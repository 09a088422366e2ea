//! A run that outlives its process: an order is charged, the process dies while it packs, and another
//! one goes on with packing. Nobody is charged twice.

use railbus::{Bus, Pipeline, step, store};
use std::{
    env,
    process::{self, Command},
    time::Duration,
};

#[step]
fn charge(order: u32) -> String {
    println!("charge order {order}");
    format!("receipt {order}")
}

/// Packs, if its process lives that long: the one that is given a place does not.
#[step]
fn pack(charge: &str) -> String {
    println!("pack, with {charge}");
    if env::args().len() > 1 {
        println!("the process dies");
        process::abort();
    }
    "one parcel".into()
}

#[step]
fn ship(pack: &str) -> String {
    println!("ship {pack}");
    "on its way".into()
}

/// Begins the run of an order, or goes on with it: the id is its key.
async fn fulfil(bus: &Bus, order: u32) -> railbus::Result<String> {
    let fulfil = Pipeline::new("fulfil").step(charge).step(pack).step(ship).build()?;
    let run = fulfil.run(store! { "order" => order }).journal(bus, format!("order-{order}"))?;
    // Short, so that what the dead process holds is soon free.
    let report = run.lease(Duration::from_millis(500)).when_free().await;
    Ok(format!("{}: {}", report.status(), report.store().to_json()?))
}

#[railbus::main]
async fn main() -> Result<(), railbus::BoxError> {
    if let Some(place) = env::args().nth(1) {
        fulfil(&Bus::open(format!("sqlite:{place}")).await?, 7).await?;
    }
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("orders.db").display().to_string();
    let first = Command::new(env::current_exe()?).arg(&place).status()?;
    println!("it came to an end: {}", first.success());

    let bus = Bus::open(format!("sqlite:{place}")).await?;
    if let Some(run) = bus.journal()?.load("order-7").await? {
        let recorded: Vec<_> = run.records.iter().map(|one| one.record.path.as_str()).collect();
        println!("recorded: {}", recorded.join(", "));
    }
    println!("{}", fulfil(&bus, 7).await?);
    // The same key again is the same run, and that is over.
    println!("{}", fulfil(&bus, 7).await?);
    bus.close().await?;
    Ok(())
}
