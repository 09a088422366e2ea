//! All cases, in the order they run.

use super::{
    close, concurrent, dead, drain, kill, leases, patterns, poison, publish, resend, stale, topics,
};
use crate::conformance::{finding::Running, stage::Stage};

/// A case: what it shows is its name.
pub(in crate::conformance) struct Case {
    pub(in crate::conformance) name: &'static str,
    pub(in crate::conformance) run: fn(&Stage) -> Running<'_>,
}

pub(in crate::conformance) const CASES: &[Case] = &[
    Case { name: "publish-subscribe", run: |s| Box::pin(publish::publish_subscribe(s)) },
    Case { name: "concurrent", run: |s| Box::pin(concurrent::concurrent(s)) },
    Case { name: "topics isolated", run: |s| Box::pin(topics::topics_isolated(s)) },
    Case { name: "resend on error", run: |s| Box::pin(resend::resend_on_error(s)) },
    Case { name: "nack delay", run: |s| Box::pin(leases::nack_delay(s)) },
    Case { name: "lease expiry", run: |s| Box::pin(leases::lease_expiry(s)) },
    Case { name: "extension", run: |s| Box::pin(leases::extension(s)) },
    Case { name: "stale ack", run: |s| Box::pin(stale::stale_ack(s)) },
    Case { name: "kill -9", run: |s| Box::pin(kill::kill_9(s)) },
    Case { name: "dead letter", run: |s| Box::pin(dead::dead_letter(s)) },
    Case { name: "poison", run: |s| Box::pin(poison::poison(s)) },
    Case { name: "drain", run: |s| Box::pin(drain::drain(s)) },
    Case { name: "close", run: |s| Box::pin(close::close(s)) },
    Case { name: "patterns", run: |s| Box::pin(patterns::patterns(s)) },
    Case { name: "odd topics", run: |s| Box::pin(topics::odd_topics(s)) },
];
