//! How topics and groups are named on the server: topics as subjects, groups as consumers.

use crate::id::derived_id;

/// The longest name of a group that is a consumer's as it is.
const PLAIN_MAX: usize = 64;

/// Writes a topic as the end of a subject.
///
/// Its dots stay what separates tokens, unless one would be empty; what means something in subjects,
/// and what can't be in them, is written as `%` and two digits. So no two topics have one subject.
pub(super) fn of_topic(topic: &str) -> String {
    write(topic, true)
}

/// Writes a name as one token of a subject.
pub(super) fn token(name: &str) -> String {
    write(name, false)
}

fn write(name: &str, dots: bool) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(name.len() + 8);
    let mut rest = name.chars().peekable();
    let mut is_begun = false;
    while let Some(c) = rest.next() {
        let ends = matches!(rest.peek(), None | Some('.'));
        let separates = dots && c == '.' && is_begun && !ends;
        is_begun = c != '.' || !separates;
        if separates || is_plain(c) {
            out.push(c);
        } else {
            // A character that is written so is one byte.
            let _ = write!(out, "%{:02X}", u32::from(c));
        }
    }
    out
}

/// Tells whether a character stands for itself in a token. `$` begins what is the server's own.
fn is_plain(c: char) -> bool {
    !(c <= ' ' || c == '\u{7f}' || matches!(c, '%' | '*' | '>' | '.' | '$'))
}

/// Reads a topic from the end of a subject, whoever wrote it.
pub(super) fn to_topic(written: &str) -> String {
    if !written.contains('%') {
        return written.to_owned();
    }
    let mut out = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns the name of a group's consumer: its own, or where that can't be one, one that follows from it.
pub(super) fn consumer(group: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !group.is_empty() && group.len() <= PLAIN_MAX && group.bytes().all(is_plain) {
        true => group.to_owned(),
        // A name of its own can't begin so.
        false => format!("={}", derived_id("railbus group", group)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn is_subject(text: &str) -> bool {
        !text.is_empty()
            && text.split('.').all(|t| !t.is_empty() && t != "*" && t != ">")
            && !text.contains(|c: char| c <= ' ' || c == '\u{7f}')
    }

    #[test]
    fn no_two_topics_have_one_subject_and_each_is_read_as_it_was() {
        let mut topics: Vec<String> = (0..0x800_u32)
            .filter_map(char::from_u32)
            .flat_map(|c| [format!("{c}"), format!("a{c}b"), format!("{c}{c}"), format!("a.{c}")])
            .collect();
        let more = [
            "a:b",
            "a.b",
            "a-b",
            "a_b",
            "..",
            "...",
            ".a",
            "a.",
            "a..b",
            "a...b",
            "%2E",
            "%",
            "%%2",
            "a.%2E",
            "*.>",
            "a.*",
            "$JS.API",
            "é.ü",
            "日本.語",
            "😀",
            "a\u{2028}b",
        ];
        topics.extend(more.map(str::to_owned));
        topics.sort_unstable();
        topics.dedup();
        let mut seen = HashMap::new();
        for topic in &topics {
            let written = of_topic(topic);
            assert!(is_subject(&written), "{topic:?}: {written:?}");
            assert_eq!(to_topic(&written), *topic, "{written}");
            let single = token(topic);
            assert!(is_subject(&single) && !single.contains('.'), "{topic:?}: {single:?}");
            assert_eq!(seen.insert(written, topic), None);
        }
        assert_eq!(
            (of_topic("order.placed"), of_topic("a:b")),
            ("order.placed".into(), "a:b".into())
        );
    }

    #[test]
    fn what_others_write_is_read_as_far_as_it_goes() {
        assert_eq!(to_topic("a%"), "a%");
        assert_eq!(to_topic("a%zz%4"), "a%zz%4");
        assert_eq!(to_topic("%FF"), "\u{fffd}");
    }

    #[test]
    fn a_group_has_a_consumer_of_its_own() {
        assert_eq!(consumer("billing-2_x"), "billing-2_x");
        let odd = ["a b", "a.b", "ä", "=x", "", "a/b", &"x".repeat(65)];
        let names: Vec<_> = odd.iter().map(|name| consumer(name)).collect();
        assert!(names.iter().all(|n| n.starts_with('=') && n.len() == 37), "{names:?}");
        let all: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(all.len(), odd.len());
    }
}
