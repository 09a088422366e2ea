//! The smallest steps: no executor, no settings, nothing that can fail.

use railbus::{Pipeline, step, store};

#[step]
fn simple(data: &str) -> String {
    format!("Processed: {data}")
}

#[step]
fn my_step() -> &'static str {
    "Step processed successfully"
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let pipeline = Pipeline::new("p").step(simple).step(my_step).build()?;
    let report = pipeline.run(store! { "data" => "x" }).await;
    println!("{}", report.get::<String>("simple")?);
    println!("{}", report.get::<String>("my_step")?);
    println!("{report}");
    Ok(())
}
