//! What tracers say of a trace to themselves. Source: W3C Trace Context, section 3.3.

/// How many members there may be.
const MEMBERS_MAX: usize = 32;

/// How many characters are passed on.
const LENGTH_MAX: usize = 512;

/// Which members are left out first, where there are more.
const LONG: usize = 128;

/// Reads the members of all the values that there are, in order, and returns them as one; none if
/// there is none, or one of them is not valid: then nobody can tell what the rest means.
pub(super) fn read<'a>(values: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    for member in values.flat_map(|value| value.split(',')) {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        let known = members.iter().any(|(other, _)| *other == key);
        if known || !is_key(key) || !is_value(value) {
            return None;
        }
        members.push((key, value));
    }
    let valid = !members.is_empty() && members.len() <= MEMBERS_MAX;
    valid.then(|| shortened(members))
}

/// Writes members, without those that are too many: long ones, then the last.
fn shortened(mut members: Vec<(&str, &str)>) -> String {
    let length = |(key, value): &(&str, &str)| key.len() + 1 + value.len();
    let total = |members: &[(&str, &str)]| {
        members.iter().map(length).sum::<usize>() + members.len().saturating_sub(1)
    };
    while total(&members) > LENGTH_MAX
        && let Some(long) = members.iter().rposition(|member| length(member) > LONG)
    {
        members.remove(long);
    }
    while total(&members) > LENGTH_MAX {
        members.pop();
    }
    let written: Vec<_> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
    written.join(",")
}

fn is_key(key: &str) -> bool {
    let first = |part: &str| part.starts_with(|c: char| c.is_ascii_lowercase());
    let first_of_tenant =
        |part: &str| part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let all = |part: &str| {
        let mut bytes = part.bytes();
        bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    match key.split_once('@') {
        None => first_of_tenant(key) && key.len() <= 256 && all(key),
        Some((tenant, system)) => {
            let tenant = first_of_tenant(tenant) && tenant.len() <= 241 && all(tenant);
            tenant && first(system) && system.len() <= 14 && all(system)
        }
    }
}

fn is_value(value: &str) -> bool {
    let printable = |b: u8| matches!(b, b' '..=b'~') && b != b',' && b != b'=';
    !value.is_empty() && value.len() <= 256 && value.bytes().all(printable)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn what_is_too_long_loses_long_members_first_and_then_the_last() {
        let of = |text: String| read([&*text].into_iter()).unwrap_or_default();
        let member = |key: &str, length: usize| format!("{key}={}", "x".repeat(length));
        let fits = format!("{},{}", member("a", 254), member("b", 253));
        assert_eq!((fits.len(), of(fits.clone())), (512, fits));
        let long = format!("a=1,{},c=3", member("b", 200));
        assert_eq!(of(long.clone()), long, "there is room");
        let longer = format!("{},b=2,{},{}", member("a", 200), member("c", 200), member("d", 200));
        assert_eq!(of(longer), format!("{},b=2,{}", member("a", 200), member("c", 200)));
        let many: Vec<_> = (0..10).map(|n| member(&format!("k{n}"), 60)).collect();
        assert_eq!(of(many.join(",")), many[..8].join(","));
    }
}
