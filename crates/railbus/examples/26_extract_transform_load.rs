//! Extraction, transformation in a process of its own, and loading: as code, and as text.

use railbus::{Pipeline, Retry, State, Steps, executors::Processes, step, store};
use serde::{Deserialize, Serialize};
use std::{io, sync::Mutex, time::Duration};

#[derive(Clone, Serialize, Deserialize)]
struct Row {
    name: String,
    cents: u64,
}

/// Loses its first connection.
#[derive(Default)]
struct Database {
    rows: Mutex<Vec<Row>>,
    was_lost: Mutex<bool>,
}

impl Database {
    async fn insert(&self, rows: &[Row]) -> io::Result<()> {
        if !std::mem::replace(&mut *self.was_lost.lock().map_err(|_| lost())?, true) {
            return Err(lost());
        }
        self.rows.lock().map_err(|_| lost())?.extend_from_slice(rows);
        Ok(())
    }
}

fn lost() -> io::Error {
    io::Error::other("the connection is lost")
}

/// Stands for a file that is read.
fn lines(source: &str) -> io::Result<[&'static str; 3]> {
    match source {
        "orders.csv" => Ok([" pen ,150", "ink,990", ",0"]),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

#[step]
fn extract(source: &str) -> io::Result<Vec<String>> {
    Ok(lines(source)?.map(str::to_owned).to_vec())
}

#[step(executor = Processes::default())]
fn transform(raw_data: &[String]) -> Vec<Row> {
    let clean = |line: &String| {
        let (name, cents) = line.split_once(',')?;
        let row = Row { name: name.trim().into(), cents: cents.parse().ok()? };
        (!row.name.is_empty()).then_some(row)
    };
    raw_data.iter().filter_map(clean).collect()
}

#[step(retry = Retry::attempts(5).backoff_factor(Duration::from_millis(1)).on::<io::Error>())]
async fn load(rows: &[Row], db: State<Database>) -> io::Result<&'static str> {
    db.insert(rows).await?;
    for row in rows {
        println!("  {} {}", row.name, row.cents);
    }
    Ok("Load successful")
}

#[railbus::main(steps = Steps::new().add(transform))]
async fn main() -> railbus::Result<()> {
    let etl = Pipeline::new("etl").input::<String>("source").state(Database::default());
    let etl = etl.step(extract).pipe(transform).pipe(load).build()?;
    let report = etl.run(store! { "source" => "orders.csv" }).await;
    println!("{report}\n{}", report.get::<String>("load")?);

    let steps = Steps::new().add(extract).add(transform).add(load).state(Database::default());
    let etl = Pipeline::new("etl").input::<String>("source").steps(steps);
    let etl = etl.flow("extract |-> transform |-> load").build()?;
    println!("{}", etl.run(store! { "source" => "orders.csv" }).await.status());
    println!("{}", etl.run(store! { "source" => "lost.csv" }).await);
    Ok(())
}
