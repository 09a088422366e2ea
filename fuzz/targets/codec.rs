//! Whatever is decoded encodes to what decodes to the same event.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use railbus::codec::{decode, encode};

fuzz_target!(|data: &[u8]| {
    let Ok(event) = decode(&Bytes::copy_from_slice(data)) else { return };
    let again = encode(&event).expect("what was decoded encodes");
    let again = decode(&again.into()).expect("what was encoded decodes");
    assert_eq!(again.id(), event.id());
    assert_eq!(again.topic(), event.topic());
    assert_eq!(again.source(), event.source());
    assert_eq!(again.metadata(), event.metadata());
    assert_eq!(again.timestamp(), event.timestamp());
});
