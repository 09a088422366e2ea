//! Many patterns: whoever wants an event hears it, whatever the index makes of the patterns.

use railbus::{Bus, Event, Subscription, event_type, topic, topic::Pattern};
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..=self.below(most)).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

/// A subscription as the index does not know it.
struct Known {
    number: usize,
    of_type: Option<Pattern>,
    of_topic: Option<Pattern>,
    subscription: Subscription,
}

const NAMES: &[&str] = &["a", "b.", "ab", "order", "ä", ".", "app0001", "]", "[", "tenant"];
const PATTERNS: &[&str] = &[
    "*", "*", "?", "a", "b.", "ab", "order", "ä", ".", "app0001", "[ab]", "[!ä]", "[]a]", "[", "]",
    "tenant",
];

fn subscribe(
    bus: &Bus,
    heard: &Arc<Mutex<Vec<usize>>>,
    n: usize,
    on: [usize; 2],
) -> railbus::Result<Known> {
    let mut numbers = Numbers(0x9e37_79b9 + n as u64);
    let mut pattern = |wanted| (wanted > 0).then(|| numbers.text(PATTERNS, 6));
    let (of_type, of_topic) = (pattern(on[0]), pattern(on[1]));
    let heard = Arc::clone(heard);
    let handler = move |_: &Event| heard.lock().unwrap_or_else(PoisonError::into_inner).push(n);
    let of = of_type.as_deref().map(event_type);
    let on = of_topic.as_deref().map(topic);
    let subscription = match (of, on) {
        (Some(of), Some(on)) => bus.on(of & on).run(handler).now(),
        (Some(one), None) | (None, Some(one)) => bus.on(one).run(handler).now(),
        (None, None) => bus.on("*").run(handler).now(),
    };
    let [of_type, of_topic] = [of_type, of_topic].map(|text| text.map(Pattern::new));
    Ok(Known { number: n, of_type, of_topic, subscription: subscription? })
}

#[railbus::test]
async fn the_index_finds_what_asking_everyone_finds_while_subscriptions_come_and_go() {
    let mut numbers = Numbers(42);
    let (bus, heard) = (Bus::new(), Arc::new(Mutex::new(Vec::new())));
    let mut known: Vec<Known> = Vec::new();
    let (mut matched, mut made) = (0, 0);
    for round in 0..400 {
        for _ in 0..numbers.below(8) {
            made += 1;
            let on = [numbers.below(4), numbers.below(2)];
            known.push(subscribe(&bus, &heard, made, on).unwrap());
        }
        // Half of the time more go than come, and once all.
        let gone = if round == 200 { known.len() } else { numbers.below(8).min(known.len()) };
        for _ in 0..gone {
            let at = numbers.below(known.len());
            known.remove(at).subscription.cancel();
        }
        for _ in 0..10 {
            let (name, on) = (numbers.text(NAMES, 7), numbers.text(NAMES, 7));
            let of = |pattern: &Option<Pattern>, name: &str| {
                pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
            };
            let wanting = known.iter().filter(|k| of(&k.of_type, &name) && of(&k.of_topic, &on));
            let mut wanted: Vec<_> = wanting.map(|k| k.number).collect();
            bus.emit(Event::new(&name).topic(&on)).unwrap();
            let mut ran = std::mem::take(&mut *heard.lock().unwrap());
            // Which run first is another rule's.
            wanted.sort_unstable();
            ran.sort_unstable();
            assert_eq!(ran, wanted, "type {name:?}, topic {on:?}, round {round}");
            matched += ran.len();
        }
    }
    assert!(matched > 5000, "only {matched} matches: the patterns are too narrow to tell");
    assert!(made > 1000);
}

#[railbus::test]
async fn one_that_is_found_by_several_of_its_pieces_runs_once_and_in_its_order() {
    let (bus, heard) = (Bus::new(), Arc::new(Mutex::new(Vec::new())));
    let mut kept = Vec::new();
    for n in 0..40 {
        let heard = Arc::clone(&heard);
        let either = event_type("*.app0.*") | event_type("*.tenant.*") | event_type("*.app0.*x");
        let either = if n % 2 == 0 { either } else { event_type("*.app0.*") };
        kept.push(
            bus.on(either).run(move |_: &Event| heard.lock().unwrap().push(n)).now().unwrap(),
        );
    }
    bus.emit(Event::new("a.app0.app0.tenant.app0.x")).unwrap();
    assert_eq!(*heard.lock().unwrap(), (0..40).collect::<Vec<_>>());
    for subscription in kept {
        subscription.cancel();
    }
    assert!(!bus.wants("a.app0.app0.tenant.app0.x"));
}
