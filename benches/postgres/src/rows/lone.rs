//! G1: one publisher, one event after another, each confirmed.

use crate::{
    order::{bare, event},
    raw::Raw,
    server::{bus, runtime},
};
use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed};

pub(crate) fn measure(sheet: &mut Sheet) -> Result<()> {
    let runtime = runtime()?;
    let (raw, bus) =
        runtime.block_on(async { Ok::<_, Failed>((Raw::open().await?, bus().await?)) })?;
    let notify = |times: u64| -> Result<Timed> {
        harness::timed(|| {
            runtime.block_on(async {
                for number in 0..times {
                    raw.notify(&bare(number)?).await?;
                }
                Ok(times)
            })
        })
    };
    let publish = |times: u64| -> Result<Timed> {
        harness::timed(|| {
            runtime.block_on(async {
                for number in 0..times {
                    bus.publish(event(number)).await?;
                }
                Ok(times)
            })
        })
    };
    let row = Row::new("G1", "a lone publish, confirmed", Goal::Times(1.1));
    let row = row.with(Contender::base("pg_notify, prepared", notify).times(2_000));
    sheet.measure(row.with(Contender::subject("railbus publish", publish).times(2_000)))
}
