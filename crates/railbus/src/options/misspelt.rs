//! Variables that were meant for a bus, and are none of its.

use crate::error::nearest;

/// Finds the variables that are ignored and look like a misspelt `RAILBUS_URL` or `RAILBUS_BUS__KEY`, each
/// with the name that was probably meant.
///
/// Whatever else begins with `RAILBUS_` is somebody's own.
///
/// # Examples
/// ```
/// use railbus::options::misspelt;
///
/// let found = misspelt(["RAILBUS_ULR", "RAILBUS_BUS_RETENTION", "RAILBUS_URL", "RAILBUS_TOKEN"]);
/// let meant = [("RAILBUS_ULR", "RAILBUS_URL"), ("RAILBUS_BUS_RETENTION", "RAILBUS_BUS__RETENTION")];
/// assert_eq!(found, meant.map(|(name, meant)| (name.into(), meant.into())));
/// ```
pub fn misspelt(names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<(String, String)> {
    let found = |name: &str| Some((name.to_owned(), meant(name)?));
    names.into_iter().filter_map(|name| found(name.as_ref())).collect()
}

fn meant(name: &str) -> Option<String> {
    if name == "RAILBUS_URL" || name.starts_with("RAILBUS_BUS__") {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let own = upper.strip_prefix("RAILBUS_")?;
    match own.strip_prefix("BUS_").map(|key| key.trim_start_matches('_')) {
        Some("") => None,
        Some(key) => Some(format!("RAILBUS_BUS__{key}")),
        None => nearest(own, ["URL"]).map(|url| format!("RAILBUS_{url}")),
    }
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn what_was_meant_is_told_and_what_is_somebodys_own_is_not() {
        let cases = [
            ("RAILBUS_ULR", "RAILBUS_URL"),
            ("RAILBUS_URI", "RAILBUS_URL"),
            ("RAILBUS_URLS", "RAILBUS_URL"),
            ("railbus_url", "RAILBUS_URL"),
            ("RAILBUS_BUS_URL", "RAILBUS_BUS__URL"),
            ("railbus_bus__path", "RAILBUS_BUS__PATH"),
        ];
        for (name, wanted) in cases {
            assert_eq!(meant(name).as_deref(), Some(wanted), "{name}");
        }
        // Names of settings are judged by the backend, and what steps are given is theirs.
        let own =
            ["RAILBUS_URL", "RAILBUS_BUS__RETENTON", "RAILBUS_BUS__", "RAILBUS_BUS_", "RAILBUS_"];
        let of_steps = ["RAILBUS_TRY", "RAILBUS_TOPIC", "RAILBUS_EVENT_ID", "RAILBUS_ATTEMPT"];
        let others = ["RAILBUS_TOKEN", "RAILBUS_CONFORMANCE_URL", "DATABASE_ULR", "RAILBUS"];
        for name in own.into_iter().chain(of_steps).chain(others) {
            assert_eq!(meant(name), None, "{name}");
        }
    }
}
