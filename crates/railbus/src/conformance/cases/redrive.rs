//! Dead letters that are given another chance.

use super::dead::letter;
use crate::{
    backend::{Capability, Letter, LetterFilter, LetterId, Start},
    conformance::{
        finding::{Checked, Finding, ensure},
        history::What,
        refusal::{no_groups, refused},
        stage::{LONG_LEASE, Stage, literal},
    },
    delivery::Delivery,
    predicate,
    retry::Retry,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// How many tries an event gets.
const TRIES: u32 = 2;

/// A dead letter that is handed back keeps its event's id, gets its tries anew, and goes to the
/// subscription it failed in; handing it back again, even at the same time, does nothing. What is
/// purged does not come again.
pub(super) async fn redrive(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (topic, group) = (stage.topic("redriven"), stage.group("redriven"));
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    if !stage.capability.dead_letters {
        let can = |c: &Capability| c.dead_letters;
        let hint = refused("dead letters", bus.keeper().err(), can, &stage.capability)?;
        return Ok(Finding::Refused(hint));
    }
    let (says, mut said) = mpsc::unbounded_channel();
    let heals = Arc::<AtomicBool>::default();
    let healed = Arc::clone(&heals);
    let soon = Duration::from_millis(1);
    for name in ["failing", "sound"] {
        let (says, healed) = (says.clone(), Arc::clone(&healed));
        bus.on(predicate::topic(&literal(&topic)))
            .group(&*group)
            .named(name)
            .from(Start::Newest)
            .lease(LONG_LEASE)
            .retry(Retry::attempts(TRIES).backoff_factor(soon).max_backoff(soon))
            .run(move |delivery: Delivery| {
                let told = (name, delivery.event().id().to_owned(), delivery.attempt());
                // The case may be over.
                let _ = says.send(told);
                if name == "sound" || healed.load(SeqCst) { Ok(()) } else { Err("not yet") }
            })
            .await?;
    }
    let event = stage.events(&topic, 1).remove(0);
    stage.publish(&near, std::slice::from_ref(&event)).await?;
    let keeper = bus.keeper()?;
    let found = letter(stage, keeper, &group).await?;
    history_of(stage, &found)?;
    // What the tries before it said is of no interest here.
    while said.try_recv().is_ok() {}
    heals.store(true, SeqCst);
    let began = stage.history.now();
    let ids = [found.id.clone()];
    // Before it is asked for: it may come again before that returns.
    stage.history.note(began, [What::Anew { group: group.clone() }]);
    let (one, other) = stage
        .within("redriving", async { tokio::join!(keeper.redrive(&ids), keeper.redrive(&ids)) })
        .await?;
    let redriven = one? + other?;
    ensure(redriven == 1, || format!("one letter was redriven {redriven} times"))?;
    let again = keeper.redrive(&ids).await?;
    ensure(again == 0, || format!("redriving it again did {again}"))?;
    let told = stage.within("the event to come again", said.recv()).await?;
    let expected = ("failing", event.id().to_owned(), 1);
    ensure(told.as_ref() == Some(&expected), || {
        format!("redriven, {expected:?} is to be told, and it is {told:?}")
    })?;
    stage.within("the event to be settled", bus.idle()).await??;
    nobody_else(&mut said)?;
    let filter = LetterFilter { group: Some(group.clone()), ..LetterFilter::default() };
    let left = keeper.letters(&filter).await?;
    ensure(left.is_empty(), || format!("it is handled, and still there is {left:?}"))?;
    purged(stage, &topic, &heals, &mut said, &filter).await
}

/// Checks what a letter tells of its tries.
fn history_of(stage: &Stage, letter: &Letter) -> Checked {
    let told = (&*letter.subscription, &*letter.reason, letter.attempts);
    ensure(told == ("failing", "not yet", TRIES), || format!("the letter is {letter:?}"))?;
    if !stage.capability.keeps_history {
        return Ok(());
    }
    let sound = letter
        .history
        .iter()
        .enumerate()
        .all(|(n, tried)| tried.attempt as usize == n + 1 && tried.reason.contains("not yet"));
    ensure(sound && letter.history.len() == TRIES as usize, || {
        format!("its history is {:?}", letter.history)
    })
}

/// Lets an event fail once more, purges its letter, and looks whether anything comes of it.
async fn purged(
    stage: &Stage,
    topic: &str,
    heals: &AtomicBool,
    said: &mut mpsc::UnboundedReceiver<(&'static str, String, u32)>,
    filter: &LetterFilter,
) -> Checked<Finding> {
    heals.store(false, SeqCst);
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    stage.publish(&near, &stage.events(topic, 1)).await?;
    let keeper = bus.keeper()?;
    let group = filter.group.as_deref().unwrap_or_default();
    let found = letter(stage, keeper, group).await?;
    // The last that was said is of the try before it became a letter. If it came again, it would
    // be handled.
    while said.try_recv().is_ok() {}
    heals.store(true, SeqCst);
    let ids = [found.id, LetterId::new("no such letter")];
    let count = keeper.purge(&ids).await?;
    ensure(count == 1, || format!("one letter was purged as {count}"))?;
    let gone = (keeper.purge(&ids).await?, keeper.redrive(&ids).await?);
    ensure(gone == (0, 0), || format!("purged, and then purged and redriven as {gone:?}"))?;
    let left = keeper.letters(filter).await?;
    ensure(left.is_empty(), || format!("purged, and still there is {left:?}"))?;
    let after = stage.events(topic, 1);
    stage.publish(&near, &after).await?;
    for name in ["failing", "sound"] {
        let told = stage.within("a later event to come", said.recv()).await?;
        let expected = (name, after[0].id().to_owned(), 1);
        ensure(told.as_ref() == Some(&expected), || {
            format!("after a purge, {expected:?} is to be told, and it is {told:?}")
        })?;
    }
    stage.within("the event to be settled", bus.idle()).await??;
    nobody_else(said)?;
    Ok(Finding::Passed(None))
}

/// Checks that nothing was told beside what was awaited.
fn nobody_else(said: &mut mpsc::UnboundedReceiver<(&'static str, String, u32)>) -> Checked {
    let more = said.try_recv().ok();
    ensure(more.is_none(), || format!("nothing else is to be told, and it is {more:?}"))
}
