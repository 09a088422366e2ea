//! Whatever is decoded encodes to what decodes to the same event.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use railbus::codec::{decode, encode};

fuzz_target!(|data: &[u8]| {
    let Ok(event) = decode(&Bytes::copy_from_slice(data)) else { return };
    let again = encode(&event).and_then(|bytes| decode(&bytes.into()));
    let again = again.unwrap_or_else(|e| panic!("what was decoded does not come back: {e}"));
    assert_eq!(again.id(), event.id());
    assert_eq!(again.topic(), event.topic());
    assert_eq!(again.source(), event.source());
    assert_eq!(again.metadata(), event.metadata());
    assert_eq!(again.timestamp(), event.timestamp());
});
