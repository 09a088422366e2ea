//! A flow is read, or refused with a place inside the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use railbus::pipeline::text::parse;

fuzz_target!(|text: &str| match parse(text) {
    Ok(names) => names.iter().for_each(|name| assert_eq!(&text[name.span.clone()], name.name)),
    Err(error) => assert!(error.span.end <= text.len() && text.get(error.span.clone()).is_some()),
});
