//! I1 once more, with a subscriber that takes in spans.

use super::emitted;
use harness::{Goal, Result, Row, Sheet};
use std::io;
use tracing::Level;

pub(crate) fn one(sheet: &mut Sheet) -> Result<()> {
    let row = |id, work| -> Result<_> {
        let row = Row::new(id, work, Goal::Nothing).with(emitted::floor(1));
        Ok(row.with(emitted::emit(1)?).with(emitted::publish(1)?))
    };
    sheet.measure(row("I1-traced", "I1 before there is a tracing subscriber")?)?;
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::INFO).with_writer(io::sink);
    tracing::subscriber::set_global_default(subscriber.finish())?;
    sheet.measure(row("I1-traced", "I1 with a tracing subscriber (fmt, INFO)")?)
}
