//! Every backend of the table has a certificate, and it is of the suite and the claims of today.
#![allow(clippy::unwrap_used)]

mod certified;

use certified::kept;
use railbus::{
    backends::TABLE,
    conformance::{Suite, facts},
};
use serde_json::{Map, Value};

#[test]
fn every_certificate_is_of_what_the_backend_claims_and_of_all_cases() {
    for row in TABLE {
        let kept = kept(row.scheme);
        let hint = "is missing or stale: cargo xtask certify";
        let claims = facts(row.capability).into_iter();
        let claims: Map<String, Value> = claims.map(|fact| (fact.key.into(), fact.value)).collect();
        assert_eq!(kept["capability"], Value::Object(claims), "{} {hint}", row.scheme);
        let cases: Vec<_> =
            kept["cases"].as_array().into_iter().flatten().map(|case| &case["name"]).collect();
        assert_eq!(cases, Suite::names(), "{} {hint}", row.scheme);
        let failed = kept["cases"].as_array().into_iter().flatten();
        let failed: Vec<_> = failed.filter(|case| case["status"] == "failed").collect();
        assert!(failed.is_empty(), "{}: {failed:?}", row.scheme);
    }
}
