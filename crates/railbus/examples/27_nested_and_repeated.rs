//! Pipelines in pipelines, steps that repeat, a model that is fitted once, and a step on condition.

use railbus::{IntoStep, Pipeline, StepDef, StepError, repeat, step, step::Input, store};

#[step(output = "total")]
fn add(total: i64) -> i64 {
    total + 15
}

#[step]
fn double(total: i64) -> i64 {
    total * 2
}

#[step(output = "mean")]
fn fit(data: &[f64]) -> f64 {
    data.iter().sum::<f64>() / data.len() as f64
}

#[step]
fn center(data: &[f64], mean: f64) -> Vec<f64> {
    data.iter().map(|x| x - mean).collect()
}

async fn total(step: StepDef) -> railbus::Result<i64> {
    let pipeline = Pipeline::new("p").step(step).build()?;
    Ok(*pipeline.run(store! { "total" => 0_i64 }).await.get::<i64>("total")?)
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    // A pipeline is a step of another one.
    let inner = Pipeline::new("inner").step(add).build()?;
    let outer = Pipeline::new("outer").step(inner).step(double).build()?;
    println!("{}", outer.run(store! { "total" => 0_i64 }).await);

    // Three times with what it left: 45; each time afresh: 15; until it is 30: twice.
    println!("{}", total(repeat(add).times(3).into_step()).await?);
    println!("{}", total(repeat(add).times(3).fresh().into_step()).await?);
    let enough = |input: &Input<'_>| Ok::<_, StepError>(*input.get::<i64>("total")? >= 30);
    println!("{}", total(repeat(add).until(enough).into_step()).await?);

    // Fitted once: the mean stays 2; fitted again: 4.
    let scale = Pipeline::new("scale").step(fit.once()).step(center).build()?;
    for data in [vec![1.0, 2.0, 3.0], vec![3.0, 4.0, 5.0]] {
        let report = scale.run(store! { "data" => data }).await;
        println!("{} {:?}", report.get::<f64>("mean")?, report.get::<Vec<f64>>("center")?);
    }
    scale.refit();
    let report = scale.run(store! { "data" => vec![3.0, 4.0, 5.0] }).await;
    println!("{} {:?}", report.get::<f64>("mean")?, report.get::<Vec<f64>>("center")?);

    // Only if there is something to double.
    let positive = |input: &Input<'_>| Ok::<_, StepError>(*input.get::<i64>("total")? > 0);
    let careful = Pipeline::new("careful").step(double.only_if(positive)).build()?;
    for total in [0_i64, 7] {
        println!("{}", careful.run(store! { "total" => total }).await.steps()[0].status);
    }
    Ok(())
}
