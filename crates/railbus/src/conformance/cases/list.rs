//! All cases, in the order they are told.

use super::{
    batches, bounded, broken, clocks, close, concurrent, context, dead, dedup, delayed, drain,
    gathered, groups, idle, journal, keeper, keys, kill, leaks, leases, many, outcomes, patterns,
    payloads, poison, positions, publish, redrive, resend, settle, stale, stranger, topics,
    unclaimed, withdraw,
};
use crate::conformance::{finding::Running, stage::Stage};

/// A case: what it shows is its name.
#[derive(Debug)]
pub(in crate::conformance) struct Case {
    pub(in crate::conformance) name: &'static str,
    pub(in crate::conformance) beside: Beside,
    /// What not every store claims, and what is to be known of it, in a few words each.
    pub(in crate::conformance) needs: &'static [&'static str],
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

const GROUPS: &str = "groups";
const LEASES: &str = "leases";
const EXTENSION: &str = "extension of leases";
const FENCING: &str = "fencing";
const DELAYS: &str = "a delay of what is given back";
const LETTERS: &str = "dead letters";
const KEYS: &str = "order by key";
const HISTORY: &str = "a history";
const DURABLE: &str = "events that outlive a process";
const LATER: &str = "delayed events";
const WITHDRAWAL: &str = "withdrawal";
const POSITIONS: &str = "positions of inputs";
const JOURNAL: &str = "a journal of runs";
const PATTERNS: &str = "patterns";
/// What the target has to say.
const MEMBER: &str = "a process as a member";
const CLOCK: &str = "Railbus's clock";
const BYTES: &str = "a way to store bytes that are no event";
const SERVER: &str = "a server by its host";
const PASSWORD: &str = "a password";
const CONTROL: &str = "control of its server (--control)";

macro_rules! cases {
    ($($name:literal $beside:ident $module:ident :: $run:ident $([$($need:ident)*])?;)*) => {
        &[$(Case {
            name: $name,
            beside: Beside::$beside,
            needs: &[$($($need),*)?],
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
    "order by key" None keys::order_by_key [GROUPS KEYS];
    "hot key" Others keys::hot_key [GROUPS KEYS];
    "continue after close" Others many::continue_after_close [GROUPS];
    "close at once" Others many::close_at_once [GROUPS];
    "continue after nacks" None many::continue_after_nacks [GROUPS LEASES];
    "context" Others context::context;
    "cancelled" Others context::cancelled [GROUPS];
    "late subscriber" Others publish::late_subscriber [GROUPS HISTORY];
    "two groups" Others groups::two_groups [GROUPS];
    "slow consumer" Others groups::slow_consumer [GROUPS];
    "bounded memory" Others bounded::bounded [GROUPS];
    "exclusivity" None concurrent::exclusivity [GROUPS];
    "nack delay" Others leases::nack_delay [GROUPS LEASES DELAYS];
    "lease expiry" Others leases::lease_expiry [GROUPS LEASES];
    "extension" Others leases::extension [GROUPS LEASES EXTENSION];
    "stale ack" Others stale::stale_ack [GROUPS LEASES FENCING];
    "kill -9" Others kill::kill_9 [GROUPS LEASES DURABLE MEMBER];
    "clocks apart" Others clocks::clocks_apart [GROUPS LEASES DURABLE MEMBER CLOCK];
    "dead letter" Others dead::dead_letter [GROUPS LEASES LETTERS];
    "redrive" Others redrive::redrive [GROUPS LETTERS];
    "keeper" Others keeper::keeper [GROUPS];
    "poison" Others poison::poison [BYTES];
    "batch publish" Others batches::batch_publish;
    "batch receive" Others batches::batch_receive [GROUPS];
    "gathered batches" Others gathered::gathered;
    "partial settle" Others settle::partial_settle [GROUPS LEASES];
    "outcomes" Others outcomes::outcomes [GROUPS LEASES DELAYS];
    "delayed events" Others delayed::delayed_events [LATER];
    "withdrawal" Others withdraw::withdrawal [WITHDRAWAL];
    "dedup window" Others dedup::dedup_window [GROUPS];
    "positions" Others positions::positions [GROUPS POSITIONS];
    "journal" Others journal::journal [JOURNAL];
    "metadata" Others payloads::metadata;
    "payload sizes" None payloads::payload_sizes;
    "idle" Others idle::idle;
    "drain" Others drain::drain;
    "close" Others close::close;
    "patterns" Others patterns::patterns [PATTERNS];
    "odd topics" Others topics::odd_topics;
    "many topics" None topics::many_topics;
    "what is not claimed" Others unclaimed::unclaimed;
    "wrong password" Others stranger::wrong_password [SERVER PASSWORD];
    "reconnect" CutOff broken::reconnect [SERVER];
    "reset" CutOff broken::reset [SERVER];
    "black hole" CutOff broken::black_hole [SERVER];
    "latency" None broken::latency [SERVER];
    "server restarted" Nothing broken::restarted [CONTROL];
    "server killed" Nothing broken::killed [CONTROL];
    "server paused" Nothing broken::paused [CONTROL];
    "leaks" Nothing leaks::leaks;
};
