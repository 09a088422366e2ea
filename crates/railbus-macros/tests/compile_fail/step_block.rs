//! Impl blocks that are no steps.
use railbus::step;

struct NoRun;
#[step]
impl NoRun {
    fn go(&self) {}
}

struct Changes;
#[step]
impl Changes {
    fn run(&mut self, n: u8) -> u8 {
        n
    }
}

struct Alone;
#[step]
impl Alone {
    fn run(n: u8) -> u8 {
        n
    }
}

struct Asks;
#[step]
impl Asks {
    async fn can_bypass(&self) -> bool {
        true
    }
    fn run(&self) {}
}

struct AsksTwice;
#[step(bypass = |_| true)]
impl AsksTwice {
    fn can_bypass(&self) -> bool {
        true
    }
    fn run(&self) {}
}

struct AsksForText;
#[step]
impl AsksForText {
    fn can_bypass(&self) -> &'static str {
        "no"
    }
    fn run(&self) {}
}

struct OfATrait;
#[step]
impl Clone for OfATrait {
    fn clone(&self) -> Self {
        OfATrait
    }
}

struct NotShared(std::cell::Cell<u8>);
#[step]
impl NotShared {
    fn run(&self) -> u8 {
        self.0.get()
    }
}

fn main() {}
