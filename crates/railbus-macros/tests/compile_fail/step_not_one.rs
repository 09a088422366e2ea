//! What is no step of a pipeline.
use railbus::{Pipeline, step};

fn plain(n: u8) -> u8 {
    n
}

struct Plain;

#[step]
fn real(n: u8) -> u8 {
    n
}

fn main() {
    let _ = Pipeline::new("p").step(plain);
    let _ = Pipeline::new("p").step(Plain);
    let _ = Pipeline::new("p").step("real");
    let _ = real(1);
}
