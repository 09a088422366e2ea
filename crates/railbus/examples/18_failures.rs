//! What a step does with errors: it makes them failures, which are answers and never tried again,
//! or passes them on as exceptions, which are.

use railbus::{Failure, OrFail, Pipeline, Retry, State, StepError, step, store};
use std::{num::ParseIntError, time::Duration};

#[derive(Clone)]
struct Table {
    factor: i64,
}

impl Table {
    fn transform(&self, raw: &str) -> Result<i64, ParseIntError> {
        Ok(raw.trim().parse::<i64>()? * self.factor)
    }
}

/// As a struct: what it works with is its own.
struct Cleaner {
    table: Table,
}

#[step]
impl Cleaner {
    fn run(&self, input_data: &str) -> Result<i64, Failure> {
        self.table.transform(input_data).or_fail("Processing failed")
    }
}

/// As a function: what it works with is given to the pipeline.
#[step]
fn my_step(input_data: &str, table: State<Table>) -> Result<i64, Failure> {
    table.transform(input_data).or_fail("Processing failed")
}

#[derive(Debug)]
enum Risk {
    Refused,
    Broken,
}

impl std::fmt::Display for Risk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Refused) { "refused" } else { "broken" })
    }
}

impl std::error::Error for Risk {}

fn risky_operation(data: &str) -> Result<String, Risk> {
    match data {
        "refuse me" => Err(Risk::Refused),
        "break me" => Err(Risk::Broken),
        data => Ok(format!("done: {data}")),
    }
}

/// The step decides which errors are answers; `?` makes the rest exceptions.
#[step(retry = Retry::attempts(3).backoff_factor(Duration::from_millis(1)))]
fn guarded(data: &str) -> Result<String, StepError> {
    match risky_operation(data) {
        Err(e @ Risk::Refused) => Err(Failure::new("Operation failed").because(e).into()),
        other => Ok(other?),
    }
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let table = Table { factor: 3 };
    let both = Pipeline::new("both")
        .state(table.clone())
        .step(Cleaner { table: table.clone() })
        .step(my_step)
        .build()?;
    for input_data in ["14", "fourteen"] {
        println!("{}", both.run(store! { "input_data" => input_data }).await);
    }
    // Alone, as in a test of the program's own:
    println!("{:?}", my_step::call("7", State::new(table)).ok());

    let guard = Pipeline::new("guard").step(guarded).build()?;
    for data in ["me", "refuse me", "break me"] {
        println!("{}", guard.run(store! { "data" => data }).await);
    }
    Ok(())
}
