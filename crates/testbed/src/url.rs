//! Texts as parts of URLs.

use std::path::Path;

/// Writes a name or a password as a part of a URL.
pub(crate) fn encoded(text: &str) -> String {
    escape(text, b"-._~")
}

/// Writes a path as a value in a URL, where a slash means nothing.
pub(crate) fn encoded_path(path: &Path) -> String {
    escape(&path.to_string_lossy(), b"-._~/")
}

fn escape(text: &str, plain: &[u8]) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || plain.contains(&b);
    let one = |b| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(one).collect()
}

/// Returns the URL with another server in place of its own.
pub(crate) fn with_address(url: &str, address: impl std::fmt::Display) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let identity = authority.rfind('@').map_or("", |at| &authority[..=at]);
    format!("{scheme}://{identity}{address}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_another_address_and_keeps_the_rest() {
        let with = |url| with_address(url, "127.0.0.1:9");
        assert_eq!(with("redis://127.0.0.1:1"), "redis://127.0.0.1:9");
        assert_eq!(with("a://u:p%40w@h:1/db?x=/y"), "a://u:p%40w@127.0.0.1:9/db?x=/y");
        assert_eq!(with("a://h?x=u@v"), "a://127.0.0.1:9?x=u@v");
    }

    #[test]
    fn what_would_end_a_part_of_a_url_is_escaped() {
        assert_eq!(encoded("p@s/s:?#%"), "p%40s%2Fs%3A%3F%23%25");
        assert_eq!(encoded_path(Path::new("/a b/c")), "/a%20b/c");
    }
}
