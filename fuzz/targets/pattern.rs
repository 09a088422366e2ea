//! Matching ends, and agrees with a matcher that tries everything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use railbus::topic::Pattern;

/// Stars and question marks by trying every split; sets are left to the table of cases.
fn slow(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|n| slow(rest, &name[n..])),
        Some(('?', rest)) => !name.is_empty() && slow(rest, &name[1..]),
        Some((c, rest)) => name.first() == Some(c) && slow(rest, &name[1..]),
    }
}

fuzz_target!(|input: (&str, &str)| {
    let (pattern, name) = input;
    let found = Pattern::new(pattern).matches(name);
    if !pattern.contains('[') && pattern.len() < 12 && name.len() < 24 {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(found, slow(&chars(pattern), &chars(name)), "{pattern:?} {name:?}");
    }
});
