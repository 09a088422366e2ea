//! What a program gives along with a trace. Source: W3C Baggage, section 3.

use std::fmt::Write;

/// How many members are passed on, and how many bytes.
const MEMBERS_MAX: usize = 64;
const BYTES_MAX: usize = 8192;

/// Reads the members of all the values that there are, in order, and returns them as one, without
/// the last ones that are too many; none if there is none, or one of them is not valid.
pub(super) fn read<'a>(values: impl Iterator<Item = &'a str>) -> Option<String> {
    let (mut all, mut count) = (String::new(), 0);
    for member in values.flat_map(|value| value.split(',')) {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let mut parts = member.split(';').map(|part| part.trim_matches([' ', '\t']));
        let (key, value) = pair(parts.next()?)?;
        let mut written = format!("{key}={}", value?);
        for property in parts {
            let (key, value) = pair(property)?;
            written.push(';');
            written.push_str(key);
            if let Some(value) = value {
                let _ = write!(written, "={value}");
            }
        }
        let comma = usize::from(!all.is_empty());
        if count < MEMBERS_MAX && all.len() + comma + written.len() <= BYTES_MAX {
            count += 1;
            all.push_str(&","[..comma]);
            all.push_str(&written);
        } else {
            // What comes behind would be out of its order.
            count = MEMBERS_MAX;
        }
    }
    (!all.is_empty()).then_some(all)
}

/// Returns the decoded values, by key, of what [`read`] returned; of a key that is there several
/// times the last.
pub(super) fn get(baggage: &str, key: &str) -> Option<String> {
    let members = baggage.split(',').rev().filter_map(|member| member.split(';').next());
    let mut pairs = members.filter_map(|member| member.split_once('='));
    pairs.find(|(known, _)| *known == key).map(|(_, value)| decoded(value))
}

/// Adds a member; none if its key is no token.
pub(super) fn with(baggage: Option<&str>, key: &str, value: &str) -> Option<String> {
    if !is_token(key) {
        return None;
    }
    let member = format!("{key}={}", encoded(value));
    read(baggage.into_iter().chain([&*member]))
}

/// Reads a key and, if there is one, its value; none if either is not valid.
fn pair(text: &str) -> Option<(&str, Option<&str>)> {
    let (key, value) = match text.split_once('=') {
        None => (text, None),
        Some((key, value)) => {
            (key.trim_end_matches([' ', '\t']), Some(value.trim_start_matches([' ', '\t'])))
        }
    };
    let valid = is_token(key) && value.is_none_or(|value| value.bytes().all(is_octet));
    valid.then_some((key, value))
}

/// Source: RFC 9110, section 5.6.2.
fn is_token(key: &str) -> bool {
    let of_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !key.is_empty() && key.bytes().all(of_token)
}

fn is_octet(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if is_octet(byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // A string takes all that is written to it.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Decodes a value; what is no text becomes U+FFFD.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let digits = digits.filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        match (first, digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
