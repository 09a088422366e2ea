//! A URL is read or refused, and neither is ever told with its password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use railbus::{backends, options::Options};

fuzz_target!(|text: &str| {
    if let Ok(options) = Options::parse(text) {
        let _ = options.to_string();
        if let Ok(row) = backends::find(&options) {
            let _ = (row.check)(&options);
        }
    }
    if text.contains("s3cr3t") {
        return; // The fuzzer has found it out.
    }
    let secret = format!("redis://me:s3cr3t-s3cr3t@{text}");
    let said = match Options::parse(&secret) {
        Ok(options) => options.to_string(),
        Err(error) => format!("{error} {:?}", error.advice()),
    };
    assert!(!said.contains("s3cr3t-s3cr3t"), "{said}");
});
