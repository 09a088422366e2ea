//! A pattern means the same everywhere.

use crate::{
    backend::{Broadcast, Capability, Patterns, Start, Subscribe},
    conformance::{
        census::{census, once},
        finding::{Broken, Checked, Finding, ensure},
        refusal::{no_groups, refused},
        seat::{Ear, ids},
        stage::{LONG_LEASE, Stage, literal},
    },
    event::Event,
    predicate::{self, Clause, Interest},
    topic::Pattern,
};
use std::collections::BTreeSet;

/// Pattern, name, and whether they match.
///
/// Source: `fnmatch.fnmatchcase` of Python 3.11.
const TABLE: &[(&str, &str, bool)] = &[
    ("order.placed", "order.placed", true),
    ("order.placed", "order.place", false),
    ("order.placed", "Order.placed", false),
    ("*", "order.placed", true),
    ("*", "registry:bots:eu", true),
    ("order.*", "order.placed", true),
    ("order.*", "order.", true),
    ("order.*", "order", false),
    ("registry:*", "registry:bots", true),
    ("registry:*", "registry:bots:eu", true),
    ("registry:*", "registry:", true),
    ("registry:*", "registry", false),
    ("*:*", "registry:bots", true),
    ("*:*", "order.placed", false),
    ("*:eu", "registry:bots:eu", true),
    ("*.*.*", "x.y.z", true),
    ("*.*.*", "order.placed", false),
    ("a*c", "a/b/c", true),
    ("a*c", "ac", true),
    ("a*b*c", "axbyc", true),
    ("a*b*c", "acb", false),
    ("**a**", "bab", true),
    ("*aab", "aaab", true),
    ("*a*a*a*a*b", "aaaaaaaaaaaaaaaac", false),
    ("a?c", "abc", true),
    ("a?c", "ac", false),
    ("a?c", "a:c", true),
    ("?", "é", true),
    ("?", "🦀", true),
    ("?", "e\u{301}", false),
    ("日?", "日本", true),
    ("??", "日本", true),
    ("a[bc]d", "abd", true),
    ("a[bc]d", "aed", false),
    ("a[!b]c", "aXc", true),
    ("a[!b]c", "abc", false),
    ("[!a]", "b", true),
    ("[!a]", "a", false),
    ("[!a]", ":", true),
    ("x[!a-c]y", "xdy", true),
    ("x[!a-c]y", "xby", false),
    ("[a-c]", "b", true),
    ("[a-c]", "d", false),
    ("[a-c]", "B", false),
    ("[z-a]", "m", false),
    ("[a-c-e]", "-", true),
    ("[a-c-e]", "d", false),
    ("[a-c-e]", "e", true),
    ("[a-]", "-", true),
    ("[-a]", "-", true),
    ("[--0]", ".", true),
    ("[--0]", "1", false),
    ("[é-ü]", "ö", true),
    ("[é-ü]", "z", false),
    ("[日本]x", "本x", true),
    ("[]a]", "]", true),
    ("[]a]", "a", true),
    ("[]a]", "b", false),
    ("[!]a]", "b", true),
    ("[!]a]", "]", false),
    ("[a]]", "a]", true),
    ("[a]]", "a", false),
    ("[", "[", true),
    ("[", "a", false),
    ("a[", "a[", true),
    ("[ab", "[ab", true),
    ("[ab", "a", false),
    ("[]", "[]", true),
    ("[!]", "[!]", true),
    ("[!", "[!", true),
    ("[!", "b", false),
    ("[a-c", "[a-c", true),
    ("[a*", "[abc", true),
    ("a]", "a]", true),
    ("[*]", "*", true),
    ("[*]", "a", false),
    ("[?]", "?", true),
    ("[?]", "a", false),
    ("[[]", "[", true),
    ("[!!]", "!", false),
    ("[!!]", "a", true),
    ("[^a]", "^", true),
    ("[^a]", "a", true),
    ("[^a]", "b", false),
    ("a\\*", "a\\b", true),
    ("a\\*", "a*", false),
    ("[\\]", "\\", true),
    ("[.]", ".", true),
    ("(a|b)", "a", false),
    ("(a|b)", "(a|b)", true),
    ("a+", "aa", false),
    ("a.c", "abc", false),
    ("%", "x", false),
    ("_", "x", false),
    ("a%", "a%", true),
];

/// The table holds in the process; and what a backend picks out for a group or a listener, by
/// type and by topic, is what the table says.
pub(super) async fn patterns(stage: &Stage) -> Checked<Finding> {
    for (pattern, name, matches) in TABLE {
        ensure(Pattern::new(*pattern).matches(name) == *matches, || {
            let not = if *matches { "" } else { "not " };
            format!("{pattern:?} must {not}match {name:?}")
        })?;
    }
    if stage.capability.patterns == Patterns::None {
        let asked = stage.bus().await?.on(predicate::topic("a*")).run(|_: &Event| ());
        let asked = stage.within("a refusal", asked.into_future()).await?;
        let can = |c: &Capability| c.patterns != Patterns::None;
        let hint = refused("patterns", asked.err(), can, &stage.capability)?;
        return Ok(Finding::Refused(hint));
    }
    let patterns: BTreeSet<&str> = TABLE.iter().map(|(pattern, _, _)| *pattern).collect();
    if stage.capability.broadcast != Broadcast::None {
        heard(stage, &patterns).await.map_err(|broken| broken.within("broadcast"))?;
    }
    if stage.capability.groups {
        shared(stage, &patterns).await.map_err(|broken| broken.within("group"))?;
    } else {
        no_groups(stage).await?;
    }
    Ok(Finding::Passed(Some(format!("{} patterns", patterns.len()))))
}

/// Returns an event for each name of the table: as its type on `topic`, or as the end of its
/// topic.
fn named(topic: &str, as_type: bool) -> Vec<Event> {
    let names: BTreeSet<&str> = TABLE.iter().map(|(_, name, _)| *name).collect();
    let event = |name: &str| {
        if as_type {
            Event::new(name).topic(topic).payload(())
        } else {
            Event::new("named").topic(format!("{topic}{name}")).payload(())
        }
    };
    names.into_iter().map(event).collect()
}

async fn heard(stage: &Stage, patterns: &BTreeSet<&str>) -> Checked {
    let topic = stage.topic("heard");
    let (near, far) = stage.pair().await?;
    let mut ears = Vec::new();
    for pattern in patterns {
        // The end of the topic tells when all has come.
        let wanted = predicate::event_type(pattern) & predicate::topic(&literal(&topic));
        let wanted = wanted | predicate::topic(&literal(&format!("{topic}:end")));
        ears.push((pattern, Ear::open(&far, wanted, stage.patience).await?));
    }
    let events = named(&topic, true);
    let end = Event::new("end").topic(format!("{topic}:end")).payload(());
    for event in events.iter().chain([&end]) {
        stage.within("a publish", near.publish(event.clone())).await??;
    }
    for (text, mut ear) in ears {
        let pattern = Pattern::new(*text);
        let expected: Vec<_> = events.iter().filter(|e| pattern.matches(e.event_type())).collect();
        let mut heard = ear.take(expected.len() + 1).await?;
        heard.extend(ear.rest());
        let expected = expected.into_iter().chain([&end]).map(Event::id);
        once(expected, heard.iter().map(Event::id)).map_err(|b| b.within(&format!("{text:?}")))?;
    }
    Ok(())
}

async fn shared(stage: &Stage, patterns: &BTreeSet<&str>) -> Checked {
    for as_type in [true, false] {
        let topic = stage.topic(if as_type { "types " } else { "topics " });
        let (near, far) = (stage.open().await?, stage.open().await?);
        let end = Event::new("end").topic(format!("end of {topic}")).payload(());
        let ending = Clause { event_type: None, topic: Some(literal(end.topic())) };
        let mut seats = Vec::new();
        for text in patterns {
            let clause = if as_type {
                Clause { event_type: Some((*text).into()), topic: Some(literal(&topic)) }
            } else {
                Clause { event_type: None, topic: Some(format!("{topic}{text}")) }
            };
            let request = Subscribe {
                group: Some(stage.group(&format!("{as_type} {text}"))),
                interest: Interest(vec![clause, ending.clone()]),
                start: Start::Newest,
                lease: LONG_LEASE,
                order: Default::default(),
            };
            seats.push((*text, stage.sit(&far, request, end.topic()).await?));
        }
        let events = named(&topic, as_type);
        stage.publish(&near, &events).await?;
        stage.publish(&near, std::slice::from_ref(&end)).await?;
        for (text, seat) in seats {
            let pattern =
                Pattern::new(if as_type { text.into() } else { format!("{topic}{text}") });
            let name = |e: &Event| if as_type { e.event_type() } else { e.topic() }.to_owned();
            let matching = events.iter().filter(|e| pattern.matches(&name(e)));
            let expected: Vec<_> = matching.chain([&end]).map(Event::id).collect();
            let about = |broken: Broken| broken.within(&format!("{text:?}"));
            let taken = seat.take(expected.len()).await.map_err(about)?;
            census(expected, ids(&taken)).map_err(about)?;
        }
    }
    Ok(())
}
