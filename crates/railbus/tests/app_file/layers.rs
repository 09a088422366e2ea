//! What runs around the pipeline of a subscription: what it means, and every mistake in it.

use super::{Folder, mistakes::each};
use railbus::app::{DedupSpec, LogSpec, RateSpec};
use std::time::Duration;

const REST: &str = "bus.url = \"sqlite:x\"\n[steps.a]\ncommand = [\"true\"]\n[pipelines.p]\nflow = \"a\"\n[[input]]\nkind = \"interval\"\nevery = \"1s\"\ntype = \"t\"\n[[on]]\npipeline = \"p\"\n";

#[test]
fn layers_are_read_with_their_defaults() {
    let folder = Folder::new();
    let load = |text: &str| {
        let spec = folder.load(format!("{REST}{text}"), &[]).unwrap();
        spec.subscriptions[0].layers.clone()
    };
    let none = load("");
    assert!(none.rate.is_none() && none.log.is_none() && none.dedup.is_none());
    assert_eq!(none.timeout, None);
    assert_eq!(load("log = false\ndedup = false"), none);
    let short = load("group = \"g\"\nrate = 50\nlog = true\ndedup = true\ntimeout = \"5s\"");
    assert_eq!(short.rate, Some(RateSpec { per_second: 50.0, burst: None, shared: None }));
    assert_eq!(short.log, Some(LogSpec { payloads: false }));
    assert_eq!(short.dedup, Some(DedupSpec { by: None, window: None, shared: false }));
    assert_eq!(short.timeout, Some(Duration::from_secs(5)));
    let full = load(
        "group = \"g\"\nrate = { per_second = 0.5, burst = 3, shared = \"mails\" }\n\
         log = { payloads = true }\ndedup = { by = \"order.id\", window = \"1h\", shared = true }",
    );
    let shared = Some("mails".to_owned());
    assert_eq!(full.rate, Some(RateSpec { per_second: 0.5, burst: Some(3), shared }));
    assert_eq!(full.log, Some(LogSpec { payloads: true }));
    let (by, window) = (Some("order.id".to_owned()), Some(Duration::from_secs(3600)));
    assert_eq!(full.dedup, Some(DedupSpec { by, window, shared: true }));
}

#[test]
fn mistakes_in_layers() {
    each(
        &format!("{REST}group = \"g\"\n"),
        &[
            ("ratee = 5", 13, 1, "`ratee` is not a key", "did you mean `rate`?"),
            ("rate_limit = 5", 13, 1, "`rate_limit` is not a key", "did you mean `rate`?"),
            ("logging = true", 13, 1, "`logging` is not a key", "did you mean `log`?"),
            ("dedupe = true", 13, 1, "`dedupe` is not a key", "did you mean `dedup`?"),
            ("rate = 0", 13, 8, "`rate` must be more than 0", "one in ten seconds"),
            ("rate = -1.5", 13, 8, "`rate` must be more than 0", "one in ten seconds"),
            ("rate = inf", 13, 8, "`rate` must be more than 0", "one in ten seconds"),
            ("rate = \"5/s\"", 13, 8, "`rate` must be a table", "write rate = 50"),
            ("rate = { burst = 3 }", 13, 8, "has no `per_second`", "add per_second = 50"),
            ("rate = { per_second = 5, brust = 3 }", 13, 26, "`brust`", "did you mean `burst`?"),
            ("rate = { per_second = 5, burst = 0 }", 13, 34, "must be from 1 to", ""),
            ("rate = { per_second = 5, shared = true }", 13, 35, "`shared` must be a string", ""),
            ("log = 1", 13, 7, "`log` must be a table", "write log = true"),
            ("log = { payload = true }", 13, 9, "`payload`", "did you mean `payloads`?"),
            ("dedup = \"id\"", 13, 9, "`dedup` must be a table", "write dedup = true"),
            ("dedup = { key = \"id\" }", 13, 11, "`key` is not a key", "did you mean `by`?"),
            ("dedup = { window = 60 }", 13, 20, "`window` must be a duration", "\"30s\""),
            ("timeout = \"0s\"", 13, 11, "`timeout` must be more than zero", ""),
        ],
    );
    each(REST, &[("rate = 5", 12, 8, "a rate needs a `group`", "add a `group`")]);
}

#[cfg(feature = "redis")]
#[test]
fn what_a_fleet_is_to_share_needs_a_bus_that_keeps_it() {
    let text = REST.replace("sqlite:x", "redis://localhost");
    each(
        &text,
        &[("dedup = { shared = true }", 12, 20, "redis keeps nothing for a fleet", "sqlite:PATH")],
    );
    let folder = Folder::new();
    for fine in ["dedup = { shared = false }", "dedup = true\nlog = true"] {
        folder.load(format!("{text}{fine}"), &[]).unwrap();
    }
}
