//! What ends a run: a failure, an exception, and a success where the step says so. The report tells
//! which.

use railbus::{Failure, IntoStep, Pipeline, RunReport, step, store};

#[step]
fn my_custom(fail: bool) -> Result<&'static str, Failure> {
    match fail {
        true => Err(Failure::new("Something went wrong")),
        false => Ok("Step processed successfully"),
    }
}

#[step]
fn next() {}

fn tell(report: &RunReport) {
    println!("{} {:?}", report.status(), report.stopped());
    for step in report.steps() {
        println!("  {}: {}", step.name, step.status);
    }
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    // The default: what does not succeed ends the run.
    let strict = Pipeline::new("strict").step(my_custom).step(next).build()?;
    tell(&strict.run(store! { "fail" => true }).await);
    tell(&strict.run(store! { "fail" => false }).await);

    // As in the document: a run goes on, whatever happens, but for what a step says.
    let lenient = Pipeline::new("lenient").lenient().step(my_custom).step(next).build()?;
    tell(&lenient.run(store! { "fail" => true }).await);
    let stops = my_custom.stop_on_error(true);
    let lenient = Pipeline::new("lenient").lenient().step(stops).step(next).build()?;
    tell(&lenient.run(store! { "fail" => true }).await);
    tell(&lenient.run(store! { "fail" => false }).await);

    // A success that ends the run is told from a failure that does.
    let enough = my_custom.stop_on_success(true);
    let first_that_works = Pipeline::new("first").step(enough).step(next).build()?;
    tell(&first_that_works.run(store! { "fail" => false }).await);
    Ok(())
}
