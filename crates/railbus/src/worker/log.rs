//! Log lines on their way to the program.

use super::channel::Channel;
use crate::executors::processes::{
    message::LogHead,
    wire::{Frame, Kind},
};
use serde_json::{Map, Value};
use std::{
    fmt::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::rebuild_interest_cache,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::set_global_default,
};

/// Sends each log line as a message. Spans are the program's own: lines are told within them.
pub(super) struct Log {
    channel: Arc<Channel>,
    level: Arc<AtomicU8>,
}

impl Log {
    /// Has log lines sent, unless the program brought a subscriber of its own; returns up to which
    /// level.
    pub(super) fn install(channel: Arc<Channel>) -> Wanted {
        let level = Arc::<AtomicU8>::default();
        // It fails where there is one already, which then does as it likes.
        let _ = set_global_default(Self { channel, level: Arc::clone(&level) });
        Wanted(level)
    }
}

/// Up to which level the program listens: 0 for none, 5 for all.
pub(super) struct Wanted(Arc<AtomicU8>);

impl Wanted {
    pub(super) fn set(&self, level: u8) {
        if self.0.swap(level, Ordering::Relaxed) != level {
            rebuild_interest_cache();
        }
    }
}

fn number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(metadata.level()) <= self.level.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        let (level, target) = (number(event.metadata().level()), event.metadata().target().into());
        let line = LogHead { level, target, message: said.message, fields: said.fields };
        if let Ok(frame) = Frame::write(Kind::Log, &line, []) {
            // A program that is gone ends this process anyway.
            let _ = self.channel.write(&frame);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn keep(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String fails only if the value's own Debug does.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.keep(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value);
    }
}
