//! Signatures: the vectors of those who defined them, and what must not pass.
#![cfg(feature = "webhook")]
#![allow(clippy::unwrap_used)]

use axum::http::HeaderMap;
use railbus::{
    ErrorKind,
    clock::Timestamp,
    webhook::{Encoding, Signature},
};
use std::time::Duration;

fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
    all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn refusal(signature: &Signature, all: &[(&'static str, &str)], body: &str, now: i64) -> String {
    let error = signature.verify_at(&headers(all), body.as_bytes(), at(now)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    error.message().to_owned()
}

#[test]
fn github_s_own_example_passes() {
    // GitHub Docs, "Validating webhook deliveries", "Testing the webhook payload validation".
    let github = Signature::github("It's a Secret to Everybody").unwrap();
    let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let name = "x-hub-signature-256";
    assert!(github.verify(&headers(&[(name, good)]), b"Hello, World!").is_ok());
    let upper = good.to_uppercase().replace("SHA256", "sha256");
    assert!(github.verify(&headers(&[(name, &upper)]), b"Hello, World!").is_ok());
    assert_eq!(
        refusal(&github, &[(name, good)], "Hello, World", 0),
        "the signature fits no secret"
    );
    assert_eq!(refusal(&github, &[], "Hello, World!", 0), "there is no signature");
    for (text, why) in [
        (&good[7..], "the signature is malformed"),
        ("sha256=", "the signature fits no secret"),
        (&good[..good.len() - 1], "the signature is malformed"),
        (&good[..good.len() - 2], "the signature fits no secret"),
        ("sha256=zz", "the signature is malformed"),
        ("sha1=757107ea0eb2509fc211221cce984b8a37570b6d", "the signature is malformed"),
    ] {
        assert_eq!(refusal(&github, &[(name, text)], "Hello, World!", 0), why, "{text}");
    }
    assert_eq!(github.sign("any", b"Hello, World!")[0].1, good);
}

/// Those of the reference libraries of Standard Webhooks.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const TIME: i64 = 1_614_265_330;
const BODY: &str = r#"{"test": 2432232314}"#;
const GOOD: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn standard(signature: &str) -> [(&'static str, &str); 3] {
    [("webhook-id", ID), ("webhook-timestamp", "1614265330"), ("webhook-signature", signature)]
}

#[test]
fn the_reference_vector_of_standard_webhooks_passes() {
    for secret in [SECRET, SECRET.strip_prefix("whsec_").unwrap()] {
        let signature = Signature::standard(secret).unwrap();
        let verify = |said: &str, now| {
            signature.verify_at(&headers(&standard(said)), BODY.as_bytes(), at(now))
        };
        assert!(verify(GOOD, TIME).is_ok());
        let many = format!("v1,AAAA v2,xx {GOOD} v1a,{}", &GOOD[3..]);
        assert!(verify(&many, TIME).is_ok(), "one of several");
        assert!(verify(&GOOD.replace("v1,", "v2,"), TIME).is_err(), "of another version");
        assert!(verify(GOOD, TIME + 300).is_ok() && verify(GOOD, TIME - 300).is_ok());
        assert_eq!(
            refusal(&signature, &standard(GOOD), BODY, TIME + 301),
            "the signature is too old"
        );
        let ahead = refusal(&signature, &standard(GOOD), BODY, TIME - 301);
        assert_eq!(ahead, "the signature is of the future");
        let short = signature.clone().tolerance(Duration::from_secs(10));
        assert!(
            short.verify_at(&headers(&standard(GOOD)), BODY.as_bytes(), at(TIME + 11)).is_err()
        );
    }
    let signature = Signature::standard(SECRET).unwrap();
    for left_out in 0..3 {
        let mut some = standard(GOOD).to_vec();
        some.remove(left_out);
        assert_eq!(refusal(&signature, &some, BODY, TIME), "there is no signature");
    }
    let mut other = standard(GOOD);
    other[0].1 = "msg_other";
    assert!(signature.verify_at(&headers(&other), BODY.as_bytes(), at(TIME)).is_err(), "its id");
    for time in ["", "soon", "+1614265330", "-1", "99999999999999999999"] {
        let mut wrong = standard(GOOD);
        wrong[1].1 = time;
        assert_eq!(refusal(&signature, &wrong, BODY, TIME), "the time is not a number", "{time}");
    }
}

#[test]
fn stripe_s_scheme_signs_time_and_body() {
    // hmac_sha256("whsec_test_secret", "1492774577.{\"id\":\"evt_1\"}"), by another program.
    const V1: &str = "799c4ba7bb339f3c8601adfd112f0e477c930a268be1243d341abb8286501c2f";
    let stripe = Signature::stripe("whsec_test_secret").unwrap();
    let body = r#"{"id":"evt_1"}"#;
    let verify = |text: &str, now| {
        stripe.verify_at(&headers(&[("stripe-signature", text)]), body.as_bytes(), at(now))
    };
    let good = format!("t=1492774577,v1={V1}");
    assert!(verify(&good, 1_492_774_577).is_ok());
    let more = format!("t=1492774577,v1={},v1={V1},v0=6ffbb59b", "0".repeat(64));
    assert!(verify(&more, 1_492_774_577).is_ok());
    assert!(
        verify(&good, 1_492_774_577 + 301).is_err() && verify(&good, 1_492_774_276 - 1).is_err()
    );
    for bad in [
        format!("v1={V1}"),
        format!("t=1492774578,v1={V1}"),
        format!("t=1492774577,v0={V1}"),
        "t=1492774577".to_owned(),
        String::new(),
        ",,=,t".to_owned(),
    ] {
        assert!(verify(&bad, 1_492_774_577).is_err(), "{bad}");
    }
}

#[test]
fn a_plain_hmac_is_written_as_one_likes() {
    // RFC 4231, test case 2.
    let (secret, body) = ("Jefe", b"what do ya want for nothing?");
    const HEX: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let hex = Signature::hmac("X-Sign", secret).unwrap().prefix("sha256=");
    assert!(hex.verify(&headers(&[("x-sign", &format!("sha256={HEX}"))]), body).is_ok());
    assert!(hex.verify(&headers(&[("x-sign", HEX)]), body).is_err(), "it lacks the prefix");
    let base64 = Signature::hmac("X-Sign", secret).unwrap().encoding(Encoding::Base64);
    let text = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";
    assert!(base64.verify(&headers(&[("x-sign", text)]), body).is_ok());
    assert!(base64.verify(&headers(&[("x-sign", HEX)]), body).is_err());
}

type Make = fn(&str) -> Signature;

#[test]
fn while_one_secret_takes_the_other_s_place_both_are_good() {
    let all: [(&str, Make, &str, &str); 4] = [
        ("github", |s| Signature::github(s).unwrap(), "old", "new"),
        ("stripe", |s| Signature::stripe(s).unwrap(), "old", "new"),
        ("hmac", |s| Signature::hmac("x-s", s).unwrap(), "old", "new"),
        ("standard", |s| Signature::standard(s).unwrap(), "b2xk", "bmV3"),
    ];
    for (name, make, old, new) in all {
        let both = make(new).or(old).unwrap();
        for secret in [old, new] {
            let signed = make(secret).sign("id", b"{}").into_iter().collect();
            assert!(both.verify(&signed, b"{}").is_ok(), "{name} {secret}");
        }
        let signed: HeaderMap = both.sign("id", b"{}").into_iter().collect();
        assert!(make(new).verify(&signed, b"{}").is_ok(), "{name}: the first signs");
        let older = make(old).verify(&signed, b"{}").is_ok();
        assert_eq!(older, ["stripe", "standard"].contains(&name), "{name}: room for several");
        let third = make("dGhpcmQ=").sign("id", b"{}").into_iter().collect();
        assert!(both.verify(&third, b"{}").is_err(), "{name}");
    }
}

#[test]
fn an_empty_secret_is_refused_and_none_is_shown() {
    assert!(Signature::github("").is_err() && Signature::stripe("").is_err());
    assert!(Signature::hmac("x", "").is_err() && Signature::standard("whsec_").is_err());
    assert!(Signature::github("a").unwrap().or("").is_err());
    let error = Signature::standard("whsec_not base64!").unwrap_err();
    assert!(!format!("{error:?} {error}").contains("not base64!"), "{error:?}");
    assert!(Signature::hmac("no header", "secret").is_err());
    let shown = format!("{:?}", Signature::github("hunter2").unwrap());
    assert_eq!(shown, "Signature(github, 1 secrets)");
}
