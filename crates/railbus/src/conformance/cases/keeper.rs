//! Groups and letters as their keeper sees them.

use crate::{
    backend::{Backend, Keeper, Letter, LetterFilter, Replay, Start},
    clock::Timestamp,
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        history::What,
        refusal::no_groups,
        seat::id,
        stage::{LONG_LEASE, Stage, literal},
    },
    delivery::Delivery,
    error::{Error, ErrorKind, Result},
    event::Event,
    predicate,
    retry::Retry,
};
use std::{sync::Arc, time::Duration};

/// An hour: longer than clocks differ.
const HOUR: Duration = Duration::from_secs(3600);

/// A group that is not there can't be forgotten nor replayed; a replay leaves what is not settled to
/// who has it; letters are found by all that is known of them, the oldest first.
pub(super) async fn keeper(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let backend = stage.open().await?;
    let Some(keeper) = backend.keeper() else {
        return Ok(Finding::NotRun("it keeps nothing beyond its events".into()));
    };
    let nobody = stage.group("nobody's");
    missing("forgetting", stage.within("a refusal", keeper.prune(&nobody)).await?)?;
    if stage.capability.replay == Replay::Time {
        let asked = stage.within("a refusal", keeper.replay(&nobody, Start::Oldest)).await?;
        missing("a replay of", asked)?;
        replayed(stage, &backend, keeper).await.map_err(|broken| broken.within("a replay"))?;
    }
    if stage.capability.dead_letters {
        found(stage, keeper).await.map_err(|broken| broken.within("letters"))?;
    }
    Ok(Finding::Passed(None))
}

fn missing<T>(what: &str, asked: Result<T>) -> Checked {
    let kind = asked.as_ref().err().map(Error::kind);
    let error = asked.err();
    ensure(kind == Some(ErrorKind::NotFound), || {
        format!("{what} a group that is not there must be a not-found error, and gave {error:?}")
    })
}

/// Replays a group while one event of it is settled and one is held: only the first comes again.
async fn replayed(stage: &Stage, backend: &Arc<dyn Backend>, keeper: &dyn Keeper) -> Checked {
    let (topic, group) = (stage.topic("replayed"), stage.group("replayed"));
    let one = stage.join(backend, &group, &topic, LONG_LEASE).await?;
    let other = stage.join(&stage.open().await?, &group, &topic, stage.lease()).await?;
    let events = stage.events(&topic, 2);
    stage.publish(backend, &events).await?;
    let taken = one.take(2).await?;
    one.ack(&taken[0]).await?;
    let began = stage.history.now();
    // Before it is asked for: what is settled may come again before that returns.
    stage.history.note(began, [What::Anew { group: group.clone() }]);
    stage.within("a replay", keeper.replay(&group, Start::Oldest)).await??;
    let after = stage.events(&topic, 1);
    stage.publish(backend, &after).await?;
    let again = other.take(2).await?;
    for leased in &again {
        ensure(id(leased) != id(&taken[1]), || {
            format!("{} came to another member, although one holds it", id(leased))
        })?;
    }
    other.ack_all(&again).await?;
    one.ack(&taken[1]).await.map_err(|broken| broken.within("what was held"))?;
    one.source.close().await?;
    other.nothing_else().await
}

/// Makes letters that differ in all there is, and looks for each.
async fn found(stage: &Stage, keeper: &dyn Keeper) -> Checked {
    let group = stage.group("letters");
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    let topics = [stage.topic("letters 0"), stage.topic("letters 1")];
    for (n, topic) in topics.iter().enumerate() {
        bus.on(predicate::topic(&literal(topic)))
            .group(&*group)
            .named(format!("reader {n}"))
            .from(Start::Newest)
            .lease(LONG_LEASE)
            .retry(Retry::attempts(1))
            .run(async |delivery: Delivery| {
                let of = delivery.event().event_type().to_owned();
                Err::<(), _>(format!("no {of} today"))
            })
            .await?;
    }
    let kinds = ["bread", "butter", "milk"];
    let mut events = Vec::new();
    for (n, kind) in kinds.into_iter().enumerate() {
        let event = Event::new(kind).topic(&*topics[n % 2]).payload(n);
        stage.publish(&near, std::slice::from_ref(&event)).await?;
        // One after another, so that it is known which letter is the older one.
        stage.within("the event to be settled", bus.idle()).await??;
        events.push(event);
    }
    let of_group = || LetterFilter { group: Some(group.clone()), ..LetterFilter::default() };
    let all = ask(stage, keeper, of_group()).await?;
    let ids: Vec<_> = events.iter().map(Event::id).collect();
    let told: Vec<_> = all.iter().map(|letter| &*letter.event_id).collect();
    ensure(told == ids, || format!("the letters are of {told:?}, not of {ids:?}"))?;
    let now = Timestamp::now();
    let filters = [
        (LetterFilter { id: Some(all[1].id.clone()), ..of_group() }, &[1][..]),
        (LetterFilter { event_id: Some(ids[2].into()), ..of_group() }, &[2]),
        (LetterFilter { subscription: Some("reader 0".into()), ..of_group() }, &[0, 2]),
        (LetterFilter { event_type: Some("b*".into()), ..of_group() }, &[0, 1]),
        (LetterFilter { topic: Some(topics[1].clone()), ..of_group() }, &[1]),
        (LetterFilter { reason: Some("no milk".into()), ..of_group() }, &[2]),
        (LetterFilter { since: Some(now.before(HOUR)), ..of_group() }, &[0, 1, 2]),
        (LetterFilter { since: Some(now.after(HOUR)), ..of_group() }, &[]),
        (LetterFilter { limit: Some(2), ..of_group() }, &[0, 1]),
        (LetterFilter { group: Some(stage.topic("no group")), ..LetterFilter::default() }, &[]),
    ];
    for (filter, expected) in filters {
        let asked = format!("{filter:?}");
        let told = ask(stage, keeper, filter).await?;
        let told: Vec<_> = told.iter().map(|letter| &*letter.event_id).collect();
        let expected: Vec<_> = expected.iter().map(|n| ids[*n]).collect();
        ensure(told == expected, || format!("{asked} gave {told:?}, not {expected:?}"))?;
    }
    let letters: Vec<_> = all.iter().map(|letter| letter.id.clone()).collect();
    let purged = stage.within("a purge", keeper.purge(&letters)).await??;
    ensure(purged == 3, || format!("three letters were purged as {purged}"))
}

async fn ask(stage: &Stage, keeper: &dyn Keeper, filter: LetterFilter) -> Checked<Vec<Letter>> {
    stage.within("letters", keeper.letters(&filter)).await?.map_err(Broken::from)
}
