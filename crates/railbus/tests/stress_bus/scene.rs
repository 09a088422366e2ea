//! Broadcasts in memory: who publishes, opens, cancels and closes, all at once.

use super::{
    history::{Came, How, Log, Published, Time, Wants, What},
    random::Random,
};
use railbus::{
    Bus, ErrorKind, Event, Predicate, Report, Retry, Subscription, any,
    bus::{Guard, Opening},
    delivery::Delivery,
    event_type, topic,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

/// What makes a handler panic, so that only this panic is kept quiet.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// How deep handlers publish.
const GENERATIONS: u32 = 3;

/// What all who act on one bus share.
pub(crate) struct Scene {
    pub(crate) bus: Bus,
    pub(crate) log: Log,
    seed: u64,
    events: AtomicU64,
    subs: AtomicU64,
    pub(crate) published: AtomicU64,
    /// Those that come and go.
    guests: Mutex<Vec<(u64, Held)>>,
    /// What every handler holds: when it is alone, no handler is left.
    pub(crate) alive: Arc<()>,
    pub(crate) over: AtomicBool,
}

/// How a subscription is held, which says how it is cancelled.
enum Held {
    Plain(Subscription),
    Guarded(Guard),
}

/// A subscription as it is to be.
#[derive(Clone)]
pub(crate) struct Plan {
    wants: Wants,
    priority: i32,
    attempts: u32,
    is_async: bool,
}

/// A call of a handler, which is noted however it ends.
struct Call<'a> {
    scene: &'a Scene,
    begun: Time,
    sub: u64,
    event: u64,
    attempt: u32,
    how: How,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let Self { sub, event, attempt, how, .. } = *self;
        self.scene.log.note(self.begun, What::Called { sub, event, attempt, how });
    }
}

/// A publish, which is noted however it ends.
pub(crate) struct Publishing<'a> {
    scene: &'a Scene,
    begun: Time,
    event: Published,
    inside: Option<u64>,
    came: Came,
}

impl Publishing<'_> {
    /// Notes what it came to; tells whether the bus was closed.
    pub(crate) fn came(mut self, result: &railbus::Result<Report>) -> bool {
        self.came = result.as_ref().map_or(Came::Refused, |report| Came::Ok(report.matched));
        result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed)
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        let (event, came) = (self.event.clone(), self.came.clone());
        self.scene.published.fetch_add(1, Relaxed);
        self.scene.log.note(self.begun, What::Published { event, inside: self.inside, came });
    }
}

/// What a handler does beside handling.
enum Act {
    Nothing,
    Fail,
    Panic,
    Publish,
    CancelSelf,
    CancelOther,
    Open,
}

impl Scene {
    pub(crate) fn new(bus: Bus, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            bus,
            log: Log::new(),
            seed,
            events: AtomicU64::new(0),
            subs: AtomicU64::new(0),
            published: AtomicU64::new(0),
            guests: Mutex::default(),
            alive: Arc::default(),
            over: AtomicBool::new(false),
        })
    }

    /// Returns an event that is not published yet, and what is known of it; mostly of the types
    /// that can be emitted, if it is to be.
    pub(crate) fn event(
        &self,
        random: &mut Random,
        generation: u32,
        emitted: bool,
    ) -> (Event, Published) {
        let number = self.events.fetch_add(1, Relaxed);
        let event_type = format!(
            "{}.{}",
            ["s", "m"][usize::from(random.below(if emitted { 32 } else { 2 }) == 0)],
            random.below(3)
        );
        let topic = format!("t.{}", random.below(3));
        let event = Event::new(&event_type).id(number.to_string()).topic(&topic);
        (event.payload(generation), Published { number, event_type, topic })
    }

    /// Begins a publish.
    pub(crate) fn publishing(&self, event: Published, inside: Option<u64>) -> Publishing<'_> {
        Publishing { scene: self, begun: self.log.now(), event, inside, came: Came::Dropped }
    }

    /// Thinks of a subscription. What runs async or is tried again wants no `s.*`, so that those
    /// can be emitted.
    pub(crate) fn plan(&self, random: &mut Random) -> Plan {
        let priority = random.below(4) as i32;
        let sync = |wants| Plan { wants, priority, attempts: 1, is_async: false };
        match random.below(8) {
            0 => sync(Wants::Type(format!("s.{}", random.below(3)))),
            1 => sync(Wants::Types("s.".into())),
            2 => sync(Wants::Topic(format!("t.{}", random.below(3)))),
            3 => sync(Wants::Even),
            4 => sync(Wants::All),
            5 => sync(Wants::Types("m.".into())),
            kind => {
                let wants = Wants::Type(format!("m.{}", random.below(3)));
                let attempts = 1 + 2 * random.below(2) as u32;
                Plan { wants, priority, attempts, is_async: kind == 6 }
            }
        }
    }

    /// Returns the number of a new subscription, and what opens it.
    pub(crate) fn opening(self: &Arc<Self>, plan: &Plan) -> (u64, Opening) {
        let sub = self.subs.fetch_add(1, Relaxed);
        let (scene, alive, attempts) = (Arc::clone(self), Arc::clone(&self.alive), plan.attempts);
        let retry = Retry::attempts(attempts).backoff_factor(Duration::from_millis(1));
        let on = self.bus.on(predicate(&plan.wants)).priority(plan.priority).retry(retry);
        let opening = match plan.is_async {
            false => on.run(move |bus: Bus, delivery: Delivery| {
                let _alive = &alive;
                scene.handle(&bus, sub, &delivery, attempts)
            }),
            true => on.run(move |bus: Bus, delivery: Delivery| {
                let (scene, alive) = (Arc::clone(&scene), Arc::clone(&alive));
                async move {
                    let _alive = alive;
                    scene.handle_async(&bus, sub, &delivery, attempts).await
                }
            }),
        };
        (sub, opening)
    }

    /// Notes that a subscription is open.
    pub(crate) fn opened(
        &self,
        begun: Time,
        sub: u64,
        plan: &Plan,
        open: &Subscription,
        inside: Option<u64>,
    ) {
        let number = open.id().to_string().parse().unwrap();
        let (wants, order) = (plan.wants.clone(), (plan.priority, !plan.wants.is_typed(), number));
        self.log.note(begun, What::Opened { sub, wants, order, inside });
    }

    /// Opens one that another may cancel; false if the bus is closed.
    pub(crate) fn open_guest(self: &Arc<Self>, random: &mut Random, inside: Option<u64>) -> bool {
        let plan = self.plan(random);
        let begun = self.log.now();
        let (sub, opening) = self.opening(&plan);
        let Ok(open) = opening.now() else { return false };
        self.opened(begun, sub, &plan, &open, inside);
        let held = match random.below(2) {
            0 => Held::Plain(open),
            _ => Held::Guarded(open.guard()),
        };
        self.guests.lock().unwrap().push((sub, held));
        true
    }

    pub(crate) fn guests(&self) -> usize {
        self.guests.lock().unwrap().len()
    }

    /// Cancels one that comes and goes, if there is one, in one of all ways.
    pub(crate) fn cancel_guest(&self, random: &mut Random, inside: Option<u64>) {
        let (sub, held) = {
            let mut guests = self.guests.lock().unwrap();
            if guests.is_empty() {
                return;
            }
            let at = random.below(guests.len());
            match &guests[at] {
                // It stays in the list, so that somebody cancels it once more.
                (sub, Held::Plain(open)) if random.below(4) == 0 => {
                    (*sub, Held::Plain(open.clone()))
                }
                _ => guests.swap_remove(at),
            }
        };
        let begun = self.log.now();
        match held {
            Held::Guarded(guard) => drop(guard),
            Held::Plain(open) if random.below(2) == 0 => open.cancel(),
            Held::Plain(open) => drop(self.bus.unsubscribe(open.id())),
        }
        self.log.note(begun, What::Cancelled { sub, inside });
    }

    fn cancel_self(&self, sub: u64, inside: u64) {
        let held = {
            let mut guests = self.guests.lock().unwrap();
            let at = guests.iter().position(|(guest, _)| *guest == sub);
            at.map(|at| guests.swap_remove(at))
        };
        let Some((_, held)) = held else { return };
        let begun = self.log.now();
        drop(match held {
            Held::Guarded(guard) => guard,
            Held::Plain(open) => open.guard(),
        });
        self.log.note(begun, What::Cancelled { sub, inside: Some(inside) });
    }

    /// Lets go of what would keep the bus alive.
    pub(crate) fn forget_guests(&self) {
        let guests = std::mem::take(&mut *self.guests.lock().unwrap());
        drop(guests);
    }

    /// Begins a call; none if the event is the bus's own, which is nobody's here.
    fn call(&self, sub: u64, delivery: &Delivery) -> Option<(Call<'_>, Random)> {
        let event = delivery.event().id().parse().ok()?;
        let attempt = delivery.attempt();
        let seed = [self.seed, sub, event, u64::from(attempt)];
        let random = Random::of(&seed);
        let begun = self.log.now();
        Some((Call { scene: self, begun, sub, event, attempt, how: How::Dropped }, random))
    }

    fn act(random: &mut Random) -> Act {
        match random.below(64) {
            0..4 => Act::Fail,
            4..6 => Act::Panic,
            6..10 => Act::Publish,
            10 => Act::CancelSelf,
            11 => Act::CancelOther,
            12 => Act::Open,
            _ => Act::Nothing,
        }
    }

    /// Does what may be done without awaiting.
    fn perform(
        self: &Arc<Self>,
        act: &Act,
        call: &mut Call<'_>,
        random: &mut Random,
        last: bool,
    ) -> Result<(), &'static str> {
        call.how = How::Failed { last };
        match act {
            Act::Fail => return Err("it fails"),
            Act::Panic => std::panic::panic_any(ON_PURPOSE),
            Act::CancelSelf => self.cancel_self(call.sub, call.event),
            Act::CancelOther => self.cancel_guest(random, Some(call.event)),
            Act::Open => drop(self.open_guest(random, Some(call.event))),
            Act::Publish | Act::Nothing => {}
        }
        call.how = How::Done;
        Ok(())
    }

    fn handle(
        self: &Arc<Self>,
        bus: &Bus,
        sub: u64,
        delivery: &Delivery,
        attempts: u32,
    ) -> Result<(), &'static str> {
        let Some((mut call, mut random)) = self.call(sub, delivery) else { return Ok(()) };
        let act = Self::act(&mut random);
        let generation: u32 = delivery.event().payload().unwrap();
        if matches!(act, Act::Publish) && generation < GENERATIONS {
            let (event, published) = self.event(&mut random, generation + 1, true);
            let publishing = self.publishing(published, Some(call.event));
            publishing.came(&bus.emit(event));
        }
        self.perform(&act, &mut call, &mut random, delivery.attempt() >= attempts)
    }

    async fn handle_async(
        self: &Arc<Self>,
        bus: &Bus,
        sub: u64,
        delivery: &Delivery,
        attempts: u32,
    ) -> Result<(), &'static str> {
        let Some((mut call, mut random)) = self.call(sub, delivery) else { return Ok(()) };
        for _ in 0..random.below(4) {
            tokio::task::yield_now().await;
        }
        let act = Self::act(&mut random);
        let generation: u32 = delivery.event().payload().unwrap();
        if matches!(act, Act::Publish) && generation < GENERATIONS {
            let (event, published) = self.event(&mut random, generation + 1, false);
            let publishing = self.publishing(published, Some(call.event));
            publishing.came(&bus.publish(event).await);
        }
        self.perform(&act, &mut call, &mut random, delivery.attempt() >= attempts)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }
}

fn predicate(wants: &Wants) -> Predicate {
    let is_even = |event: &Event| event.id().parse::<u64>().is_ok_and(|n| n.is_multiple_of(2));
    match wants {
        Wants::Type(name) => name.as_str().into(),
        Wants::Types(prefix) => event_type(&format!("{prefix}*")),
        Wants::Topic(name) => topic(name),
        Wants::Even => is_even.into(),
        Wants::All => any(),
    }
}
