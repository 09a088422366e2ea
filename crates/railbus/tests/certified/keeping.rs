//! The certificates that the project keeps: made by `cargo xtask certify`, held against what the
//! suite shows each time that it runs, and against what the backends claim.

use railbus::conformance::{Certificate, Suite};
use serde_json::Value;
use std::{env, fs, path::PathBuf};

/// Returns where a backend's certificate is kept.
pub(crate) fn path(name: &str) -> PathBuf {
    // Asked for as it runs: clones that share a target folder may share this test's binary.
    let krate = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    krate.join("../../docs/certificates").join(format!("{name}.json"))
}

/// Reads the certificate of a backend; null if there is none.
pub(crate) fn kept(name: &str) -> Value {
    let text = fs::read_to_string(path(name)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Holds what a whole run has shown against the certificate that is kept, or with `RAILBUS_CERTIFY`
/// puts it in its place.
pub(crate) fn certified(certificate: &Certificate) {
    if certificate.cases.len() < Suite::names().len() {
        return;
    }
    let record = certificate.to_record();
    let path = path(&certificate.backend);
    if env::var_os("RAILBUS_CERTIFY").is_some() {
        fs::write(&path, format!("{record:#}\n")).unwrap();
        return;
    }
    let hint = "if that is meant: cargo xtask certify";
    assert_eq!(kept(&certificate.backend), record, "{} is stale; {hint}", path.display());
}
