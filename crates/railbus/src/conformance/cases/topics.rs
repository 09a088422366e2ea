//! Topics don't mix, whatever they are called.

use crate::{
    backend::{Backend, Broadcast, Outgoing, Start, Subscribe},
    conformance::{
        census::census,
        finding::{Broken, Checked, Finding},
        refusal::no_groups,
        seat::{Ear, Seat, ids},
        stage::{LONG_LEASE, Stage, literal, on_topic},
    },
    error::Result,
    event::Event,
    predicate,
};
use std::sync::Arc;

/// Many topics at once: each group and each listener gets its own and nothing else; two members
/// of one group that want different topics each get what they can handle.
pub(super) async fn topics_isolated(stage: &Stage) -> Checked<Finding> {
    let topics: Vec<_> = (0..stage.counts.topics).map(|n| stage.topic(&format!("t{n}"))).collect();
    apart(stage, &topics, stage.counts.events).await?;
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    let (near, far) = (stage.open().await?, stage.open().await?);
    let group = stage.group("mixed");
    let mut seats = Vec::new();
    for backend in [&near, &far] {
        let topic = stage.topic(&format!("mixed {}", seats.len()));
        seats.push((stage.join(backend, &group, &topic, LONG_LEASE).await?, topic));
    }
    let mut events = Vec::new();
    for _ in 0..stage.counts.events {
        let (_, topic) = &seats[stage.count(0, 1)];
        events.extend(stage.events(topic, 1));
    }
    stage.publish(&near, &events).await?;
    for (seat, topic) in &seats {
        gets_its_own(seat, topic, &events).await.map_err(|b| b.within("a group's two members"))?;
    }
    Ok(Finding::Passed(None))
}

/// Topics that are long, or differ in one odd character, never collide; nor do groups.
pub(super) async fn odd_topics(stage: &Stage) -> Checked<Finding> {
    let long = "x".repeat(199);
    let odd = [
        "a",
        "A",
        "aa",
        "a:b",
        "a.b",
        "a-b",
        "a_b",
        "a/b",
        "a\\b",
        "a b",
        "a  b",
        " a",
        "a ",
        "a%b",
        "a%25b",
        "a%3Ab",
        "a+b",
        "a&b=c",
        "a#b",
        "a?b",
        "a*b",
        "a**",
        "*",
        "a[b]",
        "[!a]",
        "a]b",
        "'a'",
        "\"a\"",
        "`a`",
        "a;b",
        "a,b",
        "a|b",
        "a$b",
        "${a}",
        "{a}",
        "a\tb",
        "a\nb",
        "a::b",
        "a..b",
        "a.*",
        "a.>",
        "a.b.>",
        "é",
        "e\u{301}",
        "日本",
        "🦀",
        "null",
        "0",
        "NULL",
        "__a",
        "$SYS.a",
        "a\u{200b}b",
        "\u{feff}a",
        "../a",
    ];
    let mut topics: Vec<_> = odd.iter().map(|part| stage.topic(part)).collect();
    topics.push(stage.topic(&format!("{long}y")));
    topics.push(stage.topic(&format!("{long}z")));
    apart(stage, &topics, 2).await?;
    if !stage.capability.groups {
        no_groups(stage).await?;
    }
    Ok(Finding::Passed(Some(format!("{} topics", topics.len()))))
}

/// Publishes on each topic in turn, and checks that a listener and a group of each get their own:
/// what is another's would come before the last of these.
async fn apart(stage: &Stage, topics: &[String], count: usize) -> Checked {
    let (near, far) = stage.pair().await?;
    let mut ears = Vec::new();
    for topic in topics.iter().filter(|_| stage.capability.broadcast != Broadcast::None) {
        let wanted = predicate::topic(&literal(topic));
        ears.push((Ear::open(&far, wanted, stage.patience).await?, topic));
    }
    let mut seats = Vec::new();
    let backend: Arc<dyn Backend> = stage.open().await?;
    for topic in topics.iter().filter(|_| stage.capability.groups) {
        let request = Subscribe {
            // The group's name is as odd as the topic's.
            group: Some(stage.group(topic.split_once(':').map_or("", |(_, part)| part))),
            interest: on_topic(topic),
            start: Start::Newest,
            lease: LONG_LEASE,
            order: Default::default(),
        };
        seats.push((stage.sit(&backend, request, topic).await?, topic));
    }
    let events: Vec<_> =
        (0..count).flat_map(|_| topics.iter().flat_map(|topic| stage.events(topic, 1))).collect();
    let batch: Vec<Outgoing> = events.iter().cloned().map(Into::into).collect();
    near.publish_all(&batch).await.into_iter().collect::<Result<Vec<_>>>()?;
    for (ear, topic) in &mut ears {
        let mut heard = ear.take(count).await.map_err(|b| b.within(&format!("{topic:?}")))?;
        heard.extend(ear.rest());
        census(of(topic, &events), heard.iter().map(Event::id))
            .map_err(|b| b.within(&format!("broadcast on {topic:?}")))?;
    }
    for (seat, topic) in &seats {
        gets_its_own(seat, topic, &events).await?;
    }
    Ok(())
}

fn of<'a>(topic: &'a str, events: &'a [Event]) -> impl Iterator<Item = &'a str> {
    events.iter().filter(move |event| event.topic() == topic).map(Event::id)
}

async fn gets_its_own(seat: &Seat, topic: &str, events: &[Event]) -> Checked {
    let about = |broken: Broken| broken.within(&format!("{topic:?}"));
    let taken = seat.take(of(topic, events).count()).await.map_err(about)?;
    census(of(topic, events), ids(&taken)).map_err(about)?;
    seat.ack_all(&taken).await.map_err(about)
}
