//! What a program's own helpers for handlers ask of arguments and of what is returned.
use railbus::{delivery::IntoOutcome, handler::FromDelivery};

struct Order;

fn takes<A: FromDelivery>(_: impl Fn(A)) {}

fn returns(_: impl IntoOutcome) {}

fn main() {
    takes(|_: Order| ());
    takes(|_: railbus::Payload<Order>| ());
    returns(7);
    returns(Ok::<usize, railbus::Error>(7));
}
