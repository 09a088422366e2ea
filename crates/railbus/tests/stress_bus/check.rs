//! What the history of broadcasts in memory must not contain.

use super::history::{Came, How, Order, Published, Record, Time, Wants, What};
use std::collections::HashMap;

/// What is known of a subscription.
struct Sub<'a> {
    wants: &'a Wants,
    order: Order,
    /// When its opening began and had returned.
    asked: Time,
    open: Time,
    inside: Option<u64>,
    /// When the first cancel began, and when the first had returned.
    cancelling: Time,
    cancelled: Time,
}

/// What is known of an event.
struct Publish<'a> {
    event: &'a Published,
    begun: Time,
    ended: Time,
    inside: Option<u64>,
    came: &'a Came,
    calls: Vec<Call>,
}

#[derive(Clone, Copy)]
struct Call {
    sub: u64,
    attempt: u32,
    begun: Time,
    ended: Time,
    how: How,
}

/// How often things happened: a history in which nothing happened proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) published: u64,
    pub(crate) wanted: u64,
    pub(crate) refused: u64,
    pub(crate) done: u64,
    pub(crate) again: u64,
    pub(crate) failed: u64,
    pub(crate) opened: u64,
    pub(crate) cancelled: u64,
    /// Pairs of an event and a subscription that was surely open all the while.
    pub(crate) must: u64,
    /// Pairs of an event and a subscription that was surely cancelled before.
    pub(crate) must_not: u64,
}

/// Says everything that is wrong with a history; counts what is in it.
pub(crate) fn check(records: &[Record]) -> (Vec<String>, Totals) {
    let mut wrong = Vec::new();
    let subs = subs(records);
    let events = publishes(records, &mut wrong);
    let mut totals = Totals { opened: subs.len() as u64, ..Totals::default() };
    totals.cancelled = subs.values().filter(|sub| sub.cancelled < Time::MAX).count() as u64;
    for (number, publish) in &events {
        let mut says = Vec::new();
        count(publish, &mut totals);
        each_once_or_never(publish, &subs, &mut totals, &mut says);
        only_who_wants_it(publish, &subs, &mut says);
        in_order(publish, &subs, &mut says);
        tries_in_order(publish, &subs, &mut says);
        nobody_cancelled_inside(*number, publish, &subs, records, &mut says);
        wrong.extend(says.into_iter().map(|said| format!("event {number}: {said}")));
    }
    nothing_after_the_end(records, &events, &mut wrong);
    (wrong, totals)
}

fn subs(records: &[Record]) -> HashMap<u64, Sub<'_>> {
    let mut subs = HashMap::new();
    for Record { begun, ended, what } in records {
        if let What::Opened { sub, wants, order, inside } = what {
            let (asked, open, inside) = (*begun, *ended, *inside);
            let (cancelling, cancelled) = (Time::MAX, Time::MAX);
            let sub_of = Sub { wants, order: *order, asked, open, inside, cancelling, cancelled };
            subs.insert(*sub, sub_of);
        }
    }
    for Record { begun, ended, what } in records {
        if let What::Cancelled { sub, .. } = what
            && let Some(sub) = subs.get_mut(sub)
        {
            sub.cancelling = sub.cancelling.min(*begun);
            sub.cancelled = sub.cancelled.min(*ended);
        }
    }
    subs
}

fn publishes<'a>(records: &'a [Record], wrong: &mut Vec<String>) -> HashMap<u64, Publish<'a>> {
    let mut events = HashMap::new();
    for Record { begun, ended, what } in records {
        if let What::Published { event, inside, came } = what {
            let (begun, ended, inside, calls) = (*begun, *ended, *inside, Vec::new());
            events.insert(event.number, Publish { event, begun, ended, inside, came, calls });
        }
    }
    for Record { begun, ended, what } in records {
        let What::Called { sub, event, attempt, how } = what else { continue };
        let call = Call { sub: *sub, attempt: *attempt, begun: *begun, ended: *ended, how: *how };
        match events.get_mut(event) {
            Some(publish) => publish.calls.push(call),
            None => wrong.push(format!("event {event} was delivered and never published")),
        }
    }
    events
}

fn count(publish: &Publish<'_>, totals: &mut Totals) {
    match publish.came {
        Came::Ok(matched) => {
            totals.published += 1;
            totals.wanted += u64::from(*matched > 0);
        }
        Came::Refused => totals.refused += 1,
        Came::Dropped => {}
    }
    for call in &publish.calls {
        match call.how {
            How::Done => totals.done += 1,
            How::Failed { last: false } => totals.again += 1,
            How::Failed { last: true } => totals.failed += 1,
            How::Dropped => {}
        }
    }
}

/// Who was open before and after got it exactly once, who was cancelled before never did.
fn each_once_or_never(
    publish: &Publish<'_>,
    subs: &HashMap<u64, Sub<'_>>,
    totals: &mut Totals,
    says: &mut Vec<String>,
) {
    let mut firsts = HashMap::<u64, usize>::new();
    for call in publish.calls.iter().filter(|call| call.attempt == 1) {
        *firsts.entry(call.sub).or_default() += 1;
    }
    let all: usize = firsts.values().sum();
    match publish.came {
        Came::Ok(matched) if *matched != all => {
            says.push(format!("the report says {matched} matched, {all} were called"));
        }
        Came::Refused if all > 0 => says.push(format!("refused, but {all} were called")),
        _ => {}
    }
    for (number, sub) in subs {
        if !sub.wants.takes(publish.event) {
            continue;
        }
        let calls = firsts.get(number).copied().unwrap_or(0);
        let whole = sub.open < publish.begun && sub.cancelling > publish.ended;
        if whole && matches!(publish.came, Came::Ok(_)) {
            totals.must += 1;
            if calls != 1 {
                says.push(format!("subscription {number} was open all the while: {calls} calls"));
            }
        }
        if sub.cancelled < publish.begun {
            totals.must_not += 1;
            if calls > 0 {
                says.push(format!("subscription {number} was cancelled before: {calls} calls"));
            }
        }
        if calls > 1 {
            says.push(format!("subscription {number} got it {calls} times"));
        }
    }
}

fn only_who_wants_it(publish: &Publish<'_>, subs: &HashMap<u64, Sub<'_>>, says: &mut Vec<String>) {
    for call in &publish.calls {
        let Some(sub) = subs.get(&call.sub) else {
            says.push(format!("subscription {} was called and never opened", call.sub));
            continue;
        };
        if !sub.wants.takes(publish.event) {
            says.push(format!("subscription {} does not want it", call.sub));
        }
        if call.begun < sub.asked || call.begun < publish.begun {
            says.push(format!("subscription {} was called before its time", call.sub));
        }
        // A dispatch is over when publish returns; only further tries come later.
        if call.attempt == 1 && call.ended > publish.ended {
            says.push(format!("subscription {} was called outside of publish", call.sub));
        }
    }
}

/// First tries run one after another, in the order of the subscriptions.
fn in_order(publish: &Publish<'_>, subs: &HashMap<u64, Sub<'_>>, says: &mut Vec<String>) {
    let mut firsts: Vec<_> = publish.calls.iter().filter(|call| call.attempt == 1).collect();
    firsts.sort_by_key(|call| call.begun);
    for pair in firsts.windows(2) {
        let (one, two) = (pair[0], pair[1]);
        let order = |call: &Call| subs.get(&call.sub).map(|sub| sub.order);
        if order(one) > order(two) {
            says.push(format!("subscription {} ran before {}", one.sub, two.sub));
        }
        if one.ended > two.begun {
            says.push(format!("subscriptions {} and {} ran at once", one.sub, two.sub));
        }
    }
}

/// The tries of one subscription are numbered from 1, without gaps, one after another, up to one
/// that succeeds or is the last.
fn tries_in_order(publish: &Publish<'_>, subs: &HashMap<u64, Sub<'_>>, says: &mut Vec<String>) {
    let mut tries = HashMap::<u64, Vec<Call>>::new();
    for call in &publish.calls {
        tries.entry(call.sub).or_default().push(*call);
    }
    for (sub, mut tries) in tries {
        tries.sort_by_key(|call| call.begun);
        for (at, call) in tries.iter().enumerate() {
            if call.attempt as usize != at + 1 {
                says.push(format!("try {} of subscription {sub} is its {}.", call.attempt, at + 1));
            }
        }
        for pair in tries.windows(2) {
            if pair[0].how != (How::Failed { last: false }) || pair[0].ended > pair[1].begun {
                says.push(format!("subscription {sub} was tried again after {:?}", pair[0].how));
            }
        }
        let stays = subs.get(&sub).is_some_and(|sub| sub.cancelled == Time::MAX);
        let how = tries.last().map(|call| call.how);
        let through = how == Some(How::Done) || how == Some(How::Failed { last: true });
        if stays && !through && matches!(publish.came, Came::Ok(_)) {
            says.push(format!("subscription {sub} was not tried again after {how:?}"));
        }
    }
}

/// What a handler does is known to the dispatch that it runs in: who was cancelled in it is not
/// called any more, and who was opened in it comes too late.
fn nobody_cancelled_inside(
    number: u64,
    publish: &Publish<'_>,
    subs: &HashMap<u64, Sub<'_>>,
    records: &[Record],
    says: &mut Vec<String>,
) {
    let first = |sub: u64| publish.calls.iter().find(|c| c.sub == sub && c.attempt == 1);
    let during = |record: &&Record| (publish.begun..=publish.ended).contains(&record.begun);
    let from = records.partition_point(|record| record.begun < publish.begun);
    for record in records[from..].iter().take_while(|r| during(r)) {
        if let What::Cancelled { sub, inside: Some(event) } = record.what
            && event == number
            && first(sub).is_some_and(|call| call.begun > record.ended)
        {
            says.push(format!("subscription {sub} ran although a handler before cancelled it"));
        }
    }
    let opened = publish.calls.iter().filter_map(|c| Some((c.sub, subs.get(&c.sub)?)));
    for (sub, _) in opened.filter(|(_, sub)| sub.inside == Some(number)) {
        says.push(format!("subscription {sub} got the event that it was opened in"));
    }
}

/// Once the bus drains nobody outside publishes, and once it is closed nothing runs.
fn nothing_after_the_end(
    records: &[Record],
    events: &HashMap<u64, Publish<'_>>,
    wrong: &mut Vec<String>,
) {
    let end = |wanted: &What| {
        let ends = records.iter().filter(|record| record.what == *wanted);
        ends.map(|record| record.ended).min().unwrap_or(Time::MAX)
    };
    let (drained, closed) = (end(&What::Drained), end(&What::Closed));
    for record in records.iter().filter(|record| record.begun > drained) {
        if let What::Opened { sub, .. } = record.what {
            wrong.push(format!("subscription {sub} was opened after the bus began to drain"));
        }
    }
    for (number, publish) in events {
        let accepted = matches!(publish.came, Came::Ok(_));
        if accepted && publish.inside.is_none() && publish.begun > drained {
            wrong.push(format!("event {number} was accepted after the bus began to drain"));
        }
        for call in publish.calls.iter().filter(|call| call.ended > closed) {
            let sub = call.sub;
            wrong.push(format!("event {number}: subscription {sub} ran after the bus was closed"));
        }
    }
}
