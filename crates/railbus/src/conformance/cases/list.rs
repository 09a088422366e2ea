//! All cases, in the order they are told.

use super::{
    batches, bounded, broken, clocks, close, concurrent, context, dead, dedup, delayed, drain,
    gathered, groups, idle, keeper, keys, kill, leaks, leases, many, outcomes, patterns, payloads,
    poison, positions, publish, redrive, resend, settle, stale, stranger, topics, unclaimed,
    withdraw,
};
use crate::conformance::{finding::Running, stage::Stage};

/// A case: what it shows is its name.
#[derive(Debug)]
pub(in crate::conformance) struct Case {
    pub(in crate::conformance) name: &'static str,
    pub(in crate::conformance) beside: Beside,
    pub(in crate::conformance) run: for<'a> fn(&'a Stage) -> Running<'a>,
}

/// What else may go on while a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conformance) enum Beside {
    /// Other cases: it mostly waits.
    Others,
    /// No other case: it has much to do, or is so slow that what others do is too much for it.
    None,
    /// Others of this kind: what fails is its own way to the server, and it waits for what follows.
    CutOff,
    /// Nothing: it counts what there is in this process, or stops the server.
    Nothing,
}

macro_rules! cases {
    ($($name:literal $beside:ident $module:ident :: $run:ident;)*) => {
        &[$(Case {
            name: $name,
            beside: Beside::$beside,
            run: |stage| Box::pin($module::$run(stage)),
        }),*]
    };
}

pub(in crate::conformance) const CASES: &[Case] = cases! {
    "publish-subscribe" Others publish::publish_subscribe;
    "concurrent subscribers" None concurrent::subscribers;
    "concurrent publishers" None concurrent::publishers;
    "topics at once" None topics::at_once;
    "topics isolated" Others topics::topics_isolated;
    "resend on error" Others resend::resend_on_error;
    "order by key" None keys::order_by_key;
    "hot key" Others keys::hot_key;
    "continue after close" Others many::continue_after_close;
    "close at once" Others many::close_at_once;
    "continue after nacks" None many::continue_after_nacks;
    "context" Others context::context;
    "cancelled" Others context::cancelled;
    "late subscriber" Others publish::late_subscriber;
    "two groups" Others groups::two_groups;
    "slow consumer" Others groups::slow_consumer;
    "bounded memory" Others bounded::bounded;
    "exclusivity" None concurrent::exclusivity;
    "nack delay" Others leases::nack_delay;
    "lease expiry" Others leases::lease_expiry;
    "extension" Others leases::extension;
    "stale ack" Others stale::stale_ack;
    "kill -9" Others kill::kill_9;
    "clocks apart" Others clocks::clocks_apart;
    "dead letter" Others dead::dead_letter;
    "redrive" Others redrive::redrive;
    "keeper" Others keeper::keeper;
    "poison" Others poison::poison;
    "batch publish" Others batches::batch_publish;
    "batch receive" Others batches::batch_receive;
    "gathered batches" Others gathered::gathered;
    "partial settle" Others settle::partial_settle;
    "outcomes" Others outcomes::outcomes;
    "delayed events" Others delayed::delayed_events;
    "withdrawal" Others withdraw::withdrawal;
    "dedup window" Others dedup::dedup_window;
    "positions" Others positions::positions;
    "metadata" Others payloads::metadata;
    "payload sizes" None payloads::payload_sizes;
    "idle" Others idle::idle;
    "drain" Others drain::drain;
    "close" Others close::close;
    "patterns" Others patterns::patterns;
    "odd topics" Others topics::odd_topics;
    "many topics" None topics::many_topics;
    "what is not claimed" Others unclaimed::unclaimed;
    "wrong password" Others stranger::wrong_password;
    "reconnect" CutOff broken::reconnect;
    "reset" CutOff broken::reset;
    "black hole" CutOff broken::black_hole;
    "latency" None broken::latency;
    "server restarted" Nothing broken::restarted;
    "server killed" Nothing broken::killed;
    "server paused" Nothing broken::paused;
    "leaks" Nothing leaks::leaks;
};
