//! Topics don't mix, whatever they are called.

use crate::{
    backend::{Backend, Broadcast, Outgoing, Patterns, Start, Subscribe},
    bus::Bus,
    conformance::{
        census::{census, once},
        finding::{Broken, Checked, Finding},
        refusal::no_groups,
        seat::{Ear, Seat, ids},
        stage::{LONG_LEASE, Stage, literal, on_topic},
    },
    error::Result,
    event::Event,
    predicate::{self, Clause, Interest},
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

/// Many topics at once, each with a member, a listener and a publisher of its own, all at work
/// together: each gets its own and all of it.
pub(super) async fn at_once(stage: &Stage) -> Checked<Finding> {
    let (near, far) = stage.pair().await?;
    let (publisher, backend) = (stage.open().await?, stage.open().await?);
    let topics: Vec<_> = (0..stage.counts.topics).map(|n| stage.topic(&format!("t{n}"))).collect();
    let each =
        topics.iter().map(|topic| both_ways(stage, topic, (&near, &far), &publisher, &backend));
    let all = futures_util::future::join_all(each).await;
    all.into_iter().collect::<Checked>()?;
    if !stage.capability.groups {
        no_groups(stage).await?;
    }
    Ok(Finding::Passed(Some(format!("{} topics", topics.len()))))
}

async fn both_ways(
    stage: &Stage,
    topic: &str,
    (near, far): (&Bus, &Bus),
    publisher: &Arc<dyn Backend>,
    backend: &Arc<dyn Backend>,
) -> Checked {
    let about = |broken: Broken| broken.within(&format!("{topic:?}"));
    let events = stage.events(topic, stage.counts.events);
    if stage.capability.broadcast != Broadcast::None {
        let wanted = predicate::topic(&literal(topic));
        let mut ear = Ear::open(far, wanted, stage.patience).await?;
        for event in &events {
            near.publish(event.clone()).await?;
        }
        let mut heard = ear.take(events.len()).await.map_err(about)?;
        heard.extend(ear.rest());
        once(events.iter().map(Event::id), heard.iter().map(Event::id)).map_err(about)?;
    }
    if stage.capability.groups {
        let (_, part) = topic.split_once(':').unwrap_or(("", topic));
        let seat = stage.join(backend, &stage.group(part), topic, LONG_LEASE).await?;
        let events = stage.events(topic, stage.counts.events);
        let (published, taken) =
            tokio::join!(stage.publish(publisher, &events), seat.take(events.len()));
        published.map_err(about)?;
        let taken = taken.map_err(about)?;
        census(events.iter().map(Event::id), ids(&taken)).map_err(about)?;
        seat.ack_together(&taken).await?;
    }
    Ok(())
}

/// Far more topics than a server has channels or tables to spare: one subscription over all of
/// them hears all, and what wants one hears one.
pub(super) async fn many_topics(stage: &Stage) -> Checked<Finding> {
    let topics: Vec<_> =
        (0..stage.counts.many_topics).map(|n| stage.topic(&format!("many {n}"))).collect();
    let all = format!("{}*", literal(&stage.topic("many ")));
    let events: Vec<_> = topics.iter().flat_map(|topic| stage.events(topic, 1)).collect();
    let last = std::slice::from_ref(&events[events.len() - 1]);
    let pushed = stage.capability.patterns != Patterns::None;
    if stage.capability.broadcast != Broadcast::None {
        let (near, far) = stage.pair().await?;
        let wanted = predicate::topic(&literal(last[0].topic()));
        let mut one = Ear::open(&far, wanted, stage.patience).await?;
        let mut every = match pushed {
            true => Some(Ear::open(&far, predicate::topic(&all), stage.patience).await?),
            false => None,
        };
        let batch: Vec<Outgoing> = events.iter().cloned().map(Into::into).collect();
        near.publish_all(&batch).await.into_iter().collect::<Result<Vec<_>>>()?;
        if let Some(every) = &mut every {
            let mut heard = every.take(events.len()).await?;
            heard.extend(every.rest());
            once(events.iter().map(Event::id), heard.iter().map(Event::id))?;
        }
        let heard = one.take(1).await?;
        once(last.iter().map(Event::id), heard.iter().chain(&one.rest()).map(Event::id))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(Some(format!("{} topics", topics.len()))));
    }
    let backend = stage.open().await?;
    let one =
        stage.join(&backend, &stage.group("one of many"), last[0].topic(), LONG_LEASE).await?;
    let interest = match pushed {
        true => Interest(vec![Clause { event_type: None, topic: Some(all) }]),
        false => Interest(topics.iter().flat_map(|topic| on_topic(topic).0).collect()),
    };
    let request = stage.request(&stage.group("all of many"), interest, LONG_LEASE);
    let every = stage.sit(&backend, request, last[0].topic()).await?;
    // Others than were heard, whose ids may be known by now.
    let events: Vec<_> = topics.iter().flat_map(|topic| stage.events(topic, 1)).collect();
    let last = std::slice::from_ref(&events[events.len() - 1]);
    stage.publish(&backend, &events).await?;
    let taken = every.take(events.len()).await?;
    census(events.iter().map(Event::id), ids(&taken))?;
    every.ack_all(&taken).await?;
    let taken = one.take(1).await?;
    census(last.iter().map(Event::id), ids(&taken))?;
    one.ack_all(&taken).await?;
    Ok(Finding::Passed(Some(format!("{} topics", topics.len()))))
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
    // What has to be quoted can't be asked for where there are no patterns.
    let pushed = stage.capability.patterns != Patterns::None;
    topics.retain(|topic| pushed || literal(topic) == *topic);
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
        once(of(topic, &events), heard.iter().map(Event::id))
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
