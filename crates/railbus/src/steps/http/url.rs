//! URLs: which of them are posted to, and what of them may be shown.

use crate::error::{Error, ErrorKind, Result};
use hyper::Uri;

/// From how many characters on a part of a path with letters and digits may be a secret, as in the
/// addresses that chats give out for posting to them.
const SECRET_MIN: usize = 16;

/// Reads a URL to post to.
///
/// # Errors
/// Returns a config error if it is none, is not of scheme `http` or `https`, or has something in it
/// that would not be sent, or not safely.
pub(crate) fn read(text: &str) -> Result<Uri> {
    let refuse =
        |why: String, hint: &str| Err(Error::new(ErrorKind::Config, "http", why).hint(hint));
    // Never shown, since it may be a password.
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    if authority.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')) {
        let hint = "send it as a header, which can come from the environment";
        return refuse("the URL has a user or a password in it".into(), hint);
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
        let hint = "write it as percent codes, such as %C3%A9 for an é";
        return refuse(
            format!("the URL has `{}` in it, which is not ASCII", c.escape_debug()),
            hint,
        );
    }
    if text.contains('#') {
        let why = "the URL has a `#` in it: what follows one is never sent".into();
        return refuse(why, "leave it out; a `#` that is meant is %23");
    }
    const EXAMPLE: &str = "write it whole, such as https://example.org/charges";
    let uri: Uri = match text.parse() {
        Ok(uri) => uri,
        Err(error) => return refuse(format!("it is not a URL: {error}"), EXAMPLE),
    };
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => {}
        Some(other @ ("http" | "https")) => {
            return refuse(format!("the {other} URL has no host"), EXAMPLE);
        }
        Some(other) => return refuse(format!("`{other}` is not a scheme for a step"), EXAMPLE),
        None => return refuse("the URL has no scheme".into(), EXAMPLE),
    }
    // One that can't be read would be taken for none.
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let port = authority.strip_prefix(uri.host().unwrap_or_default()).unwrap_or_default();
    if !port.is_empty() && uri.port_u16().is_none_or(|port| port == 0) {
        let why = format!("`{}` is not a port", port.trim_start_matches(':'));
        return refuse(why, "write a number from 1 to 65535, or leave it out with its `:`");
    }
    Ok(uri)
}

/// Returns a URL without what may be a secret in it: user and password, what follows a `?` or a
/// `#`, and parts of the path that look like one.
pub(crate) fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (start, rest) = match text.split_once("//") {
        Some((scheme, rest)) => (format!("{scheme}//"), rest),
        None => (String::new(), text),
    };
    let (host, path) = match rest.find('/') {
        Some(slash) if !start.is_empty() => rest.split_at(slash),
        None if !start.is_empty() => (rest, ""),
        _ => ("", rest),
    };
    let host = host.rsplit('@').next().unwrap_or_default();
    let part = |part| if may_be_secret(part) { "…" } else { part };
    let path: Vec<&str> = path.split('/').map(part).collect();
    format!("{start}{host}{}", path.join("/"))
}

fn may_be_secret(part: &str) -> bool {
    let has = |test: fn(&char) -> bool| part.chars().any(|c| test(&c));
    part.len() >= SECRET_MIN && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn no_secret_of_a_url_is_shown() {
        for (url, expected) in [
            (
                "https://pay.example.org/v1/charges?token=hunter2",
                "https://pay.example.org/v1/charges",
            ),
            ("https://me:hunter2@pay.example.org:8443/x", "https://pay.example.org:8443/x"),
            ("//me:hunter2@pay.example.org", "//pay.example.org"),
            ("/elsewhere?hunter2", "/elsewhere"),
            ("x@y/z", "x@y/z"),
            ("http://h/#hunter2", "http://h/"),
            (
                "https://hooks.example.com/services/T01AB2CD3/B01/x7Yq2mPz0LkWv93hTnB4s6Da",
                "https://hooks.example.com/services/T01AB2CD3/B01/…",
            ),
            (
                "https://api.example.org/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5/sendMessage",
                "https://api.example.org/…/sendMessage",
            ),
            (
                "http://h/a-rather-long-name-of-a-place/7",
                "http://h/a-rather-long-name-of-a-place/7",
            ),
        ] {
            assert_eq!(shown(url), expected);
        }
    }
}
