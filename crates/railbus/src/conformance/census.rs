//! The first oracle: nothing lost, nothing invented, duplicates counted.

use super::finding::{Broken, Checked};
use std::collections::BTreeMap;

/// Compares what was confirmed with what was seen, both as ids; returns the number of duplicates,
/// which are never filtered out.
pub(super) fn census<'a>(
    expected: impl IntoIterator<Item = &'a str>,
    seen: impl IntoIterator<Item = &'a str>,
) -> Checked<usize> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for id in expected {
        counts.entry(id).or_default().0 += 1;
    }
    for id in seen {
        counts.entry(id).or_default().1 += 1;
    }
    let some = |odd: &dyn Fn(usize, usize) -> bool| {
        let odd: Vec<_> = counts.iter().filter(|(_, (e, s))| odd(*e, *s)).collect();
        odd.first().map(|(id, _)| (odd.len(), id.to_string()))
    };
    if let Some((count, id)) = some(&|expected, seen| seen < expected) {
        return Err(Broken::firm(format!("{count} events were lost, such as {id}")));
    }
    if let Some((count, id)) = some(&|expected, seen| expected == 0 && seen > 0) {
        return Err(Broken::firm(format!("{count} events were invented, such as {id}")));
    }
    Ok(counts.values().map(|(expected, seen)| seen - expected).sum())
}

/// As [`census`], where nothing may come twice: a broadcast, to who listens.
pub(super) fn once<'a>(
    expected: impl IntoIterator<Item = &'a str>,
    heard: impl IntoIterator<Item = &'a str>,
) -> Checked {
    match census(expected, heard)? {
        0 => Ok(()),
        duplicates => Err(Broken::firm(format!("{duplicates} broadcasts were heard twice"))),
    }
}

/// Says how many duplicates there were, if any.
pub(super) fn counted(duplicates: usize) -> Option<String> {
    (duplicates > 0).then(|| format!("{duplicates} duplicates"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_event_is_told() {
        let broken = census(["a", "b"], ["a"]).unwrap_err().to_string();
        assert_eq!(broken, "1 events were lost, such as b");
        // Published twice, seen once: a multiset, not a set.
        assert!(census(["a", "a"], ["a"]).is_err());
    }

    #[test]
    fn an_invented_event_is_told() {
        let broken = census(["a"], ["a", "c"]).unwrap_err().to_string();
        assert_eq!(broken, "1 events were invented, such as c");
    }

    #[test]
    fn a_broadcast_that_is_heard_twice_is_told() {
        assert!(once(["a", "b"], ["b", "a"]).is_ok());
        let broken = once(["a", "b"], ["a", "a", "b"]).unwrap_err().to_string();
        assert_eq!(broken, "1 broadcasts were heard twice");
    }

    #[test]
    fn duplicates_are_counted() {
        assert_eq!(census(["a", "b"], ["b", "a", "a", "a"]).unwrap(), 2);
    }
}
