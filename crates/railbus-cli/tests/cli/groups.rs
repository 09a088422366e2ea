//! `railbus groups`: who is behind, and forgetting whom nobody needs.

use super::{Scene, text};
use serde_json::json;

const URL: &str = "sqlite:a.db";

/// A scene in which `g` has read one of two events of the shop, and `h` all events.
fn scene() -> Scene {
    let scene = Scene::with_events(&["shop:a", "shop:b", "other"]);
    scene.ok(&["subscribe", URL, "shop:*", "--group", "g", "--count", "1"]);
    scene.ok(&["subscribe", URL, "*", "--group", "h", "--count", "3"]);
    scene
}

#[test]
fn groups_are_listed_with_how_far_behind_they_are() {
    let scene = scene();
    let mut groups = scene.json(&["groups", "ls", URL]);
    for group in &mut groups {
        assert!(text(group, "last_seen").ends_with('Z'));
        group.as_object_mut().unwrap().remove("last_seen");
    }
    let group = |name, topic, lag| {
        let interest = json!([{ "topic": topic }]);
        json!({ "name": name, "interest": interest, "lag": lag, "leased": 0, "dead_letters": 0 })
    };
    assert_eq!(groups, [group("g", "shop:*", 1), group("h", "*", 0)]);
    let table = scene.ok(&["groups", "ls", URL]);
    for part in ["name", "interest", "lag", "dead letters", "last seen", "topic shop:*"] {
        assert!(table.contains(part), "no {part} in {table}");
    }
}

#[test]
fn a_store_without_groups_lists_none() {
    let scene = Scene::with_events(&["t"]);
    let ran = scene.run(&["groups", "ls", URL]);
    assert_eq!((ran.code, &*ran.out), (0, ""));
    assert!(ran.err.contains("has no groups"), "{}", ran.err);
    assert_eq!(scene.ok(&["groups", "ls", URL, "--json"]), "");
}

#[test]
fn a_group_is_forgotten_when_told_to_and_only_then() {
    let scene = scene();
    let would = scene.json(&["groups", "prune", URL, "g", "--dry-run"]).remove(0);
    let done = |pruned: bool| {
        json!({
            "group": "g", "pruned": pruned, "dry_run": !pruned, "unsettled": 1, "leased": 0,
            "dead_letters": 0,
        })
    };
    assert_eq!(would, done(false));
    let ran = scene.run(&["groups", "prune", URL, "g", "--dry-run"]);
    assert!(ran.err.contains("g would be forgotten, with 1 unsettled event"), "{}", ran.err);
    assert!(ran.err.contains("comes again begins anew: it gets every event that is still kept"));
    assert_eq!(scene.json(&["groups", "ls", URL]).len(), 2);
    assert_eq!(scene.json(&["groups", "prune", URL, "g"]), [done(true)]);
    assert_eq!(scene.json(&["groups", "ls", URL]).len(), 1);
    for dry_run in [&[][..], &["--dry-run"]] {
        let said = scene.broken(&[&["groups", "prune", URL, "g"], dry_run].concat());
        assert!(said.contains("no such group") && said.contains("known groups: h"), "{said}");
    }
}

#[test]
fn a_group_that_comes_again_gets_what_it_has_handled_once_more() {
    let scene = scene();
    scene.ok(&["groups", "prune", URL, "h"]);
    let again = scene.ok(&["subscribe", URL, "*", "--group", "h", "--count", "3"]);
    assert_eq!(again.lines().count(), 3, "{again}");
}
