//! What fails for good becomes a dead letter, and is kept with its reason.

use crate::{
    backend::{Capability, Keeper, Letter, LetterFilter, Start},
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        refusal::{refused, without_leases},
        seat::id,
        stage::{LONG_LEASE, Stage, literal},
    },
    delivery::Delivery,
    event::Event,
    predicate,
    retry::Retry,
};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many deliveries an event gets.
const TRIES: u32 = 3;

/// After so many deliveries an event is a dead letter: of a handler that fails each time, and of
/// processes that die each time, which the engine is not there to see.
pub(super) async fn dead_letter(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    let bus = stage.bus().await?;
    if !stage.capability.dead_letters {
        let can = |c: &Capability| c.dead_letters;
        let hint = refused("dead letters", bus.keeper().err(), can, &stage.capability)?;
        return Ok(Finding::Refused(hint));
    }
    fails(stage).await?;
    if stage.capability.counts_attempts {
        dies(stage).await.map_err(|broken| broken.within("a process that dies each time"))?;
    }
    Ok(Finding::Passed(None))
}

async fn fails(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("fails"), stage.group("fails"));
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    let (says, mut said) = mpsc::unbounded_channel();
    let soon = Duration::from_millis(1);
    bus.on(predicate::topic(&literal(&topic)))
        .group(&*group)
        .named("failing")
        .from(Start::Newest)
        .lease(LONG_LEASE)
        .retry(Retry::attempts(TRIES).backoff_factor(soon).max_backoff(soon))
        .run(move |delivery: Delivery| {
            // The case may be over.
            let _ = says.send(delivery.attempt());
            Err::<(), _>(format!("no luck at try {}", delivery.attempt()))
        })
        .await?;
    let events = stage.events(&topic, 1);
    stage.publish(&near, &events).await?;
    for n in 1..=TRIES {
        let attempt = stage.within("the handler to be called", said.recv()).await?;
        ensure(attempt == Some(n), || format!("try {n} was told as {attempt:?}"))?;
    }
    let letter = letter(stage, bus.keeper()?, &group).await?;
    let about = [&letter.event_id, &letter.subscription, &letter.reason];
    let last = format!("no luck at try {TRIES}");
    ensure(about == [events[0].id(), "failing", &last], || format!("the letter is {letter:?}"))?;
    ensure(letter.attempts == TRIES, || {
        format!("tried {TRIES} times, the letter says {}", letter.attempts)
    })?;
    ensure(letter.event.is_some(), || "the letter has no event".into())?;
    if stage.capability.keeps_history {
        let tries: Vec<_> = letter.history.iter().map(|t| t.attempt).collect();
        ensure(tries.iter().copied().eq(1..=TRIES), || format!("its history tells of {tries:?}"))?;
    }
    bus.close_within(stage.patience).await?;
    ensure(said.try_recv().is_err(), || "called again after the last try".into())?;
    stage.join(&near, &group, &topic, stage.lease()).await?.nothing_else().await
}

/// Lets every lease run out, and then starts a member that must not try again.
async fn dies(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("dies"), stage.group("dies"));
    let near = stage.open().await?;
    let seat = stage.join(&near, &group, &topic, stage.lease()).await?;
    let events = stage.events(&topic, 1);
    stage.publish(&near, &events).await?;
    for n in 1..=TRIES {
        let leased = seat.next().await?;
        ensure(leased.attempt == n && id(&leased) == events[0].id(), || {
            format!("delivery {n} was {} as attempt {}", id(&leased), leased.attempt)
        })?;
    }
    seat.source.close().await?;
    let bus = stage.bus().await?;
    let (says, mut said) = mpsc::unbounded_channel();
    bus.on(predicate::topic(&literal(&topic)))
        .group(&*group)
        .named("dying")
        .lease(LONG_LEASE)
        .retry(Retry::attempts(TRIES))
        // The case may be over.
        .run(move |event: &Event| drop(says.send(event.id().to_owned())))
        .await?;
    let letter = letter(stage, bus.keeper()?, &group).await?;
    ensure(letter.event_id == events[0].id() && letter.subscription == "dying", || {
        format!("the letter is {letter:?}")
    })?;
    bus.close_within(stage.patience).await?;
    ensure(said.try_recv().is_err(), || format!("handled after {TRIES} deliveries were used up"))?;
    stage.join(&near, &group, &topic, stage.lease()).await?.nothing_else().await
}

/// Waits for the group's only dead letter.
pub(super) async fn letter(stage: &Stage, keeper: &dyn Keeper, group: &str) -> Checked<Letter> {
    let filter = LetterFilter { group: Some(group.into()), ..LetterFilter::default() };
    let found = stage
        .within("a dead letter", async {
            loop {
                match keeper.letters(&filter).await {
                    Ok(letters) if letters.is_empty() => {
                        // Nothing tells of letters: they are looked for.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    found => return found,
                }
            }
        })
        .await??;
    ensure(found.len() == 1, || format!("{} dead letters instead of one", found.len()))?;
    found.into_iter().next().ok_or_else(|| Broken::new("no dead letter"))
}
