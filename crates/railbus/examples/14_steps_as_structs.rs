//! Steps that are structs: with `#[step]`, and written out by hand; and a value under another name.

use railbus::{
    IntoStep, Pipeline, StepResult, step,
    step::{Flow, Input, Signature, Step},
    store,
};

/// Written out: its needs and what it leaves are a [`Signature`].
struct Sum;

#[async_trait::async_trait]
impl Step for Sum {
    fn signature(&self) -> Signature {
        Signature::new("Sum").needs::<Vec<i64>>("data").output::<i64>("sum")
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        Ok(Flow::next(input.get::<Vec<i64>>("data")?.iter().sum::<i64>()))
    }
}

/// With `#[step]`: its needs are the arguments of `run`. What it works with is its own.
struct AtMost {
    limit: i64,
}

#[step]
impl AtMost {
    fn can_bypass(&self, sum: i64) -> bool {
        sum <= self.limit
    }

    fn run(&self, sum: i64) -> i64 {
        println!("{sum} is cut to {}", self.limit);
        self.limit
    }
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let pipeline = Pipeline::new("numbers")
        .step(Sum.bind("data", "raw_data"))
        .step(AtMost { limit: 5 })
        .build()?;
    for raw_data in [vec![1i64, 2], vec![1, 2, 3]] {
        let report = pipeline.run(store! { "raw_data" => raw_data }).await;
        println!("{}: {}", report.steps()[1].status, report.store().to_json()?);
    }

    let unbound = Pipeline::new("numbers").input::<Vec<i64>>("raw_data").step(Sum).build();
    println!("{}", unbound.err().map(|e| e.to_string()).unwrap_or_default());
    Ok(())
}
