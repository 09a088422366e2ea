//! Batches: many events in one call, each settled by itself.

use railbus::{Batch, Bus, Event, Retry, backend::LetterFilter};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Serialize, Deserialize)]
struct Row {
    name: String,
    stock: i64,
}

/// Writes many rows at once, as a database does with pleasure; tells which it did not take.
fn write(rows: &[&Row]) -> Vec<Result<(), String>> {
    let check = |row: &&Row| match row.stock {
        0.. => Ok(()),
        negative => Err(format!("{negative} of {}", row.name)),
    };
    rows.iter().map(check).collect()
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::open("memory:").await?;
    let store = async |batch: Batch<Row>| {
        let rows: Vec<&Row> = batch.iter().map(|row| &**row).collect();
        println!("{} rows at once", rows.len());
        let written = write(&rows);
        // What is not settled by itself ends as the handler does: well.
        for (row, written) in batch.into_iter().zip(written) {
            row.settle(written);
        }
    };
    let on = bus.on("stock.counted").group("warehouse").named("rows").retry(Retry::attempts(1));
    on.batch(3, Duration::from_millis(50)).run(store).await?;

    for (name, stock) in [("bolts", 70), ("nuts", -1), ("screws", 12), ("washers", 4)] {
        let row = Row { name: name.into(), stock };
        bus.publish(Event::new("stock.counted").payload(row)).await?;
    }
    bus.idle().await?;
    println!("{} stored", bus.counters().succeeded.get());
    for letter in bus.keeper()?.letters(&LetterFilter::default()).await? {
        println!("not stored: {}", letter.reason);
    }
    bus.close().await
}
