//! What of a text from outside may be shown: no password, wherever it stands.

use crate::error::nearest;

/// Parts of a key whose value is a secret.
const SECRETS: [&str; 9] =
    ["pass", "pwd", "secret", "token", "credential", "auth", "key", "private", "signature"];

/// Tells whether the value of this key is a secret, also where the key is a slip of the pen.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRETS.iter().any(|part| key.contains(part))
        || nearest(&key, ["password", "passwd", "secret", "token", "pw"]).is_some()
}

/// Puts `***` in place of the password of a URL; of what stands before an `@` and may be a user or
/// a token, too, except in URLs of Postgres, where it is a user.
///
/// # Examples
/// ```
/// use railbus::options::redact;
///
/// assert_eq!(redact("redis://me:s3cret@cache/0"), "redis://me:***@cache/0");
/// assert_eq!(redact("sqlite:orders.db"), "sqlite:orders.db");
/// ```
#[must_use]
pub fn redact(url: &str) -> String {
    // Slashes further on are part of the password or of the path.
    let authority = url.find(':').filter(|colon| url[*colon..].starts_with("://"));
    let start = authority.map_or(0, |colon| colon + 3);
    let Some(at) = url[start..].rfind('@').map(|i| i + start) else { return url.into() };
    let shown = match url[start..at].find(':') {
        Some(colon) => start + colon + 1,
        None if authority.is_none() || url.starts_with("postgres") => return url.into(),
        None => start,
    };
    format!("{}***{}", &url[..shown], &url[at..])
}

#[cfg(test)]
mod tests {
    use super::{is_secret, redact};

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        for (url, shown) in [
            ("redis://me:pw@h:1/0", "redis://me:***@h:1/0"),
            ("redis://me:p/w@h/0", "redis://me:***@h/0"),
            ("redis://:p@w@h", "redis://:***@h"),
            ("nats://token@h", "nats://***@h"),
            ("nats://token/more@h", "nats://***@h"),
            ("postgres://me@h/db", "postgres://me@h/db"),
            ("redis:me:pw@h", "redis:***@h"),
            ("/data/me@corp/a.db", "/data/me@corp/a.db"),
            // It may as well be a user and a password.
            ("sqlite:me@home.db", "sqlite:***@home.db"),
            ("no url", "no url"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn a_slip_of_the_pen_hides_a_secret_too() {
        for key in ["password", "PASSWORD", "pasword", "pw", "sqs_secret", "aws_access_key_id"] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["host", "port", "retention", "synchronous", "max_size", "wire", "prefix"] {
            assert!(!is_secret(key), "{key}");
        }
    }
}
