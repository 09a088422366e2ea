//! The rows, in the order they are measured.

mod asynchronous;
mod built;
mod cores;
mod emitted;
mod group;
mod many;
mod traced;

use harness::Rows;

/// Every row. What installs a tracing subscriber comes last: it can't be taken away again.
pub(crate) const ROWS: &Rows = &[
    ("I1", emitted::one),
    ("I2", emitted::key),
    ("I3", emitted::several),
    ("I4", built::typed),
    ("I5", asynchronous::one),
    ("I6", many::types),
    ("I6-patterns", many::patterns),
    ("I6-making", many::making),
    ("I7", cores::two),
    ("I8", group::one),
    ("I1-traced", traced::one),
];
