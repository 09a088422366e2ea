//! `#[railbus::test]` where it does not fit.

#[railbus::test]
fn awaits_nothing() {}

#[railbus::test]
async fn takes_an_argument(bus: railbus::Bus) {}

#[railbus::test]
async fn is_generic<T>() {}

#[railbus::test]
#[test]
async fn is_a_test_already() {}

#[railbus::test(timeout = 5)]
async fn has_no_unit() {}

#[railbus::test(timeout = "soon")]
async fn has_no_number() {}

#[railbus::test(timeout = "0s")]
async fn has_no_time() {}

#[railbus::test(worker_threads = 2)]
async fn has_one_thread() {}

#[railbus::test(start_paused = true)]
async fn asks_for_another_clock() {}

#[railbus::test(time = "virtual", flavor = "multi_thread")]
async fn has_many_times() {}

#[railbus::test(time = "fast")]
async fn has_another_time() {}

fn main() {}
