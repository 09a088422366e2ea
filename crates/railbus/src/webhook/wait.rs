//! How long a server asks to wait: `Retry-After`.

use crate::clock::Timestamp;
use jiff::fmt::rfc2822;
use std::time::Duration;

/// The longest wait that is kept to.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Reads a number of seconds or a date, as of `now`; what is neither is no wait.
///
/// Source: RFC 9110, section 10.2.3.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than there is time is as long as can be.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(WAIT_MAX));
    }
    let date = rfc2822::parse(text).ok()?.timestamp();
    let date = Timestamp::from_micros(date.as_microsecond());
    Some(date.since(now).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_waits_up_to_an_hour() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = Timestamp::from_micros(784_111_777_000_000 - 90_000_000);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90)),
            ("Sun, 06 Nov 1994 07:00:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
