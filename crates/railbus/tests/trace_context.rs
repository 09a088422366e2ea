//! W3C Trace Context and Baggage: what its test-suite (`test/test.py` of w3c/trace-context) asserts
//! of a service, asserted of one on a bus.
#![allow(clippy::unwrap_used)]

use railbus::{
    Bus, Event, Payload,
    context::{self, Trace, scope},
    json, testing,
    testing::Recorder,
};
use std::collections::BTreeMap;

/// The trace and the span that requests are in.
const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";
const PARENT: &str = "00-12345678901234567890123456789012-1234567890123456-01";

type Headers<'a> = &'a [(&'a str, &'a str)];

/// The service of the suite: calls back so often for each request, in a span of its own. Returns
/// what each callback says.
async fn callbacks(headers: Headers<'_>, count: u32) -> Vec<Trace> {
    let (bus, heard) = (testing::bus().await.unwrap(), Recorder::new());
    let service = async |count: Payload<u32>, bus: Bus| {
        for _ in 0..*count {
            let calling = scope("call").traced().run(bus.publish(Event::new("callback")));
            calling.await?;
        }
        Ok::<(), railbus::Error>(())
    };
    bus.on("request").group("service").run(service).await.unwrap();
    bus.on("callback").run(heard.clone()).await.unwrap();
    let mut request = Event::new("request");
    for (key, value) in Trace::from_headers(headers.iter().copied()).metadata() {
        request = request.metadata(key, value);
    }
    bus.publish(request.payload(count)).await.unwrap();
    bus.idle().await.unwrap();
    let traces: Vec<_> = heard.events().iter().map(|event| Trace::of(event.metadata())).collect();
    assert_eq!(traces.len(), count as usize);
    for trace in &traces {
        let parent = trace.parent().unwrap();
        let parts: Vec<_> = parent.split('-').map(str::len).collect();
        assert!(parent.starts_with("00-") && parts == [2, 32, 16, 2], "{parent}");
    }
    traces
}

async fn callback(headers: Headers<'_>) -> Trace {
    callbacks(headers, 1).await.remove(0)
}

/// Returns what becomes of one `tracestate`, or of several.
async fn state(values: &[&str]) -> Option<String> {
    let parent = [("traceparent", PARENT)].into_iter();
    let headers: Vec<_> = parent.chain(values.iter().map(|value| ("tracestate", *value))).collect();
    let trace = callback(&headers).await;
    assert_eq!(trace.trace_id(), Some(TRACE), "whatever its state: {values:?}");
    trace.state().map(str::to_owned)
}

#[railbus::test]
async fn a_trace_goes_on_under_a_span_of_its_own_or_begins() {
    let began = callback(&[]).await;
    assert_ne!(began.trace_id(), callback(&[]).await.trace_id());
    for valid in [
        PARENT,
        "cc-12345678901234567890123456789012-1234567890123456-01",
        "cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
        " 00-12345678901234567890123456789012-1234567890123456-01",
        "\t00-12345678901234567890123456789012-1234567890123456-01",
        "00-12345678901234567890123456789012-1234567890123456-01 ",
        "00-12345678901234567890123456789012-1234567890123456-01\t",
        "\t 00-12345678901234567890123456789012-1234567890123456-01 \t",
    ] {
        let trace = callback(&[("traceparent", valid)]).await;
        assert_eq!((trace.trace_id(), trace.is_sampled()), (Some(TRACE), true), "{valid}");
        assert_ne!(trace.span_id(), Some(SPAN), "{valid}");
    }
}

#[railbus::test]
async fn what_is_no_traceparent_begins_a_trace() {
    for wrong in [
        "00-12345678901234567890123456789012-1234567890123456-01.",
        "00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
        "cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like",
        "ff-12345678901234567890123456789012-1234567890123456-01",
        ".0-12345678901234567890123456789012-1234567890123456-01",
        "0.-12345678901234567890123456789012-1234567890123456-01",
        "000-12345678901234567890123456789012-1234567890123456-01",
        "0000-12345678901234567890123456789012-1234567890123456-01",
        "0-12345678901234567890123456789012-1234567890123456-01",
        "00-00000000000000000000000000000000-1234567890123456-01",
        "00-.2345678901234567890123456789012-1234567890123456-01",
        "00-1234567890123456789012345678901.-1234567890123456-01",
        "00-123456789012345678901234567890123-1234567890123456-01",
        "00-1234567890123456789012345678901-1234567890123456-01",
        "00-12345678901234567890123456789012-0000000000000000-01",
        "00-12345678901234567890123456789012-.234567890123456-01",
        "00-12345678901234567890123456789012-123456789012345.-01",
        "00-12345678901234567890123456789012-12345678901234567-01",
        "00-12345678901234567890123456789012-123456789012345-01",
        "00-12345678901234567890123456789012-1234567890123456-.0",
        "00-12345678901234567890123456789012-1234567890123456-0.",
        "00-12345678901234567890123456789012-1234567890123456-001",
        "00-12345678901234567890123456789012-1234567890123456-1",
        // Beyond the suite: upper case, other separators, other characters, nothing.
        "00-ABCDEF78901234567890123456789012-1234567890123456-01",
        "00_12345678901234567890123456789012-1234567890123456-01",
        "00-1234567890123456789012345678901ö-1234567890123456-01",
        "",
    ] {
        let trace = callback(&[("traceparent", wrong)]).await;
        assert!(!wrong.contains(trace.trace_id().unwrap()), "{wrong}");
        assert!(Trace::from_headers([("traceparent", wrong)]).parent().is_none(), "{wrong}");
    }
    for name in ["trace-parent", "trace.parent"] {
        assert_ne!(callback(&[(name, PARENT)]).await.trace_id(), Some(TRACE), "{name}");
    }
    let other = "00-12345678901234567890123456789011-1234567890123456-01";
    let twice = callback(&[("traceparent", other), ("traceparent", PARENT)]).await;
    assert!(![Some(TRACE), Some(&other[3..35])].contains(&twice.trace_id()));
}

#[railbus::test]
async fn names_of_headers_have_any_case() {
    for (parent, state) in [
        ("TraceParent", "TraceState"),
        ("TrAcEpArEnT", "TrAcEsTaTe"),
        ("TRACEPARENT", "TRACESTATE"),
    ] {
        let trace = callback(&[(parent, PARENT), (state, "foo=1")]).await;
        assert_eq!((trace.trace_id(), trace.state()), (Some(TRACE), Some("foo=1")));
    }
    for name in ["trace-state", "trace.state"] {
        assert_eq!(callback(&[("traceparent", PARENT), (name, "foo=1")]).await.state(), None);
    }
}

#[railbus::test]
async fn each_callback_has_a_span_of_its_own() {
    let illegal = "00-00000000000000000000000000000000-1234567890123456-01";
    for headers in [&[("traceparent", PARENT)][..], &[], &[("traceparent", illegal)]] {
        let traces = callbacks(headers, 3).await;
        let mut spans: Vec<_> = traces.iter().map(Trace::span_id).collect();
        spans.sort_unstable();
        spans.dedup();
        assert_eq!(spans.len(), 3);
        let goes_on = |trace: &Trace| trace.trace_id() == Some(TRACE);
        let valid = headers.first().is_some_and(|(_, parent)| *parent == PARENT);
        assert!(traces.iter().all(|trace| goes_on(trace) == valid));
    }
}

#[railbus::test]
async fn a_tracestate_goes_on_if_it_is_valid_and_its_traceparent_is() {
    assert_eq!(callback(&[("tracestate", "foo=1,bar=2")]).await.state(), None);
    assert_eq!(state(&["foo=1,bar=2"]).await.as_deref(), Some("foo=1,bar=2"));
    for (values, wanted) in [
        (&[""][..], None),
        (&["foo=1", ""], Some("foo=1")),
        (&["", "foo=1"], Some("foo=1")),
        (&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], Some("foo=1,bar=2,rojo=1,congo=2,baz=3")),
        (&["foo=1,foo=1"], None),
        (&["foo=1,foo=2"], None),
        (&["foo=1", "foo=1"], None),
        (&["foo=1", "foo=2"], None),
        (&["foo=1 \t , \t bar=2, \t baz=3"], Some("foo=1,bar=2,baz=3")),
        (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], Some("foo=1,bar=2,baz=3")),
        (&[" foo=1"], Some("foo=1")),
        (&["\tfoo=1"], Some("foo=1")),
        (&["foo=1 "], Some("foo=1")),
        (&["foo=1\t"], Some("foo=1")),
        (&["\t foo=1 \t"], Some("foo=1")),
        (&["foo=1,,bar=2"], Some("foo=1,bar=2")),
        (&["foo =1"], None),
        (&["FOO=1"], None),
        (&["foo.bar=1"], None),
        (&["foo@=1,bar=2"], None),
        (&["@foo=1,bar=2"], None),
        (&["foo@@bar=1,bar=2"], None),
        (&["foo@bar@baz=1,bar=2"], None),
        (&["foo=bar=baz"], None),
        (&["foo=,bar=3"], None),
        (&["foo"], None),
        (&["foo=ö"], None),
    ] {
        assert_eq!(state(values).await.as_deref(), wanted, "{values:?}");
    }
}

#[railbus::test]
async fn a_tracestate_has_its_limits() {
    let plain = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let printable = (' '..='~').filter(|c| ![',', '='].contains(c)).collect::<String>();
    for key in [plain.to_owned(), format!("{plain}@a-z0-9_-*/")] {
        let all = format!("{key}={printable}");
        assert_eq!(state(&[&all]).await, Some(all));
    }
    let members = |count: usize| {
        let members: Vec<_> = (1..=count).map(|n| format!("bar{n:02}={n:02}")).collect();
        members.chunks(10).map(|ten| ten.join(",")).collect::<Vec<_>>()
    };
    let of = async |values: &[String]| {
        state(&values.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    assert_eq!(of(&members(32)).await, Some(members(32).join(",")));
    assert_eq!(of(&members(33)).await, None);
    for (key, valid) in [
        ("z".repeat(256), true),
        ("z".repeat(257), false),
        ("t".repeat(241) + "@" + &"v".repeat(14), true),
        ("t".repeat(242) + "@v", false),
        ("t@".to_owned() + &"v".repeat(15), false),
    ] {
        let came = of(&["foo=1".into(), format!("{key}=1")]).await;
        assert_eq!(came.is_some_and(|state| state.contains("foo=1")), valid, "{key}");
    }
    let value = |length| format!("foo={}", "x".repeat(length));
    assert!(of(&[value(256)]).await.is_some() && of(&[value(257)]).await.is_none());
}

fn baggage(values: &[&str]) -> Option<String> {
    let headers = values.iter().map(|value| ("baggage", *value));
    Trace::from_headers(headers).baggage().map(str::to_owned)
}

#[test]
fn baggage_goes_on_if_it_is_valid_without_a_trace_too() {
    for (values, wanted) in [
        (&["SomeKey=SomeValue"][..], Some("SomeKey=SomeValue")),
        (&["a=1;p", "b=2;q=r;s"], Some("a=1;p,b=2;q=r;s")),
        (&[" a = 1 ; p = q ,\tb =\t2 "], Some("a=1;p=q,b=2")),
        (&["a=1=2"], Some("a=1=2")),
        (
            &["a=%09%20%22%27%3B%3Dasdf%21%40%23%24%25%5E%26%2A%28%29"],
            Some("a=%09%20%22%27%3B%3Dasdf%21%40%23%24%25%5E%26%2A%28%29"),
        ),
        (&["a="], Some("a=")),
        (&["a=1,a=2"], Some("a=1,a=2")),
        (&["!#$%&'*+-.^_`|~=1"], Some("!#$%&'*+-.^_`|~=1")),
        (&["", ","], None),
        (&["a"], None),
        (&["=1"], None),
        (&["a b=1"], None),
        (&["a=b c"], None),
        (&["a=\"b\""], None),
        (&["a=b\\c"], None),
        (&["a=ö"], None),
        (&["a=1;"], None),
        (&["a=1;p q"], None),
        (&["ä=1,b=2"], None),
    ] {
        assert_eq!(baggage(values).as_deref(), wanted, "{values:?}");
    }
    let of = |text: &str, key: &str| Trace::from_headers([("baggage", text)]).baggage_of(key);
    assert_eq!(of("a=%09%20%22%25", "a").as_deref(), Some("\t \"%"));
    assert_eq!(of("a=1;p=2,b=3,a=4", "a").as_deref(), Some("4"));
    assert_eq!(of("a=%C3%A9%FF%zz%2", "a").as_deref(), Some("é\u{fffd}%zz%2"));
    assert_eq!((of("a=1", "b"), of("a=1;b=2", "b")), (None, None));
    let made =
        Trace::default().with_baggage("k", "a, b;c=d\\ \"e\" 100% é").with_baggage("no key", "1");
    assert_eq!(made.baggage_of("k").as_deref(), Some("a, b;c=d\\ \"e\" 100% é"));
    assert_eq!(baggage(&[made.baggage().unwrap()]).as_deref(), made.baggage());
}

#[test]
fn baggage_has_its_limits() {
    let members =
        |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    assert_eq!(baggage(&[&members(64)]), Some(members(64)));
    assert_eq!(baggage(&[&members(65)]), Some(members(64)), "the last ones are left out");
    let bytes = |length: usize| format!("a={}", "x".repeat(length - 2));
    assert_eq!(baggage(&[&bytes(8192)]), Some(bytes(8192)));
    assert_eq!(baggage(&[&bytes(8193)]), None);
    let two = format!("{},b=2", bytes(8190));
    assert_eq!(baggage(&[&two]), Some(bytes(8190)), "no member is cut in two");
}

#[railbus::test]
async fn without_a_tracer_a_trace_goes_on_as_it_came_and_what_is_wrong_does_not() {
    let bus = testing::bus().await.unwrap();
    let heard = Recorder::new();
    bus.on("b").run(heard.clone()).await.unwrap();
    let next = async |bus: Bus| bus.publish(Event::new("b")).await.map(drop);
    bus.on("a").run(next).await.unwrap();
    let future = "cc-12345678901234567890123456789012-1234567890123456-01-more";
    for (parent, state, bags, wanted) in [
        (
            future,
            "foo=1",
            "k=v",
            json!({"traceparent": future, "tracestate": "foo=1", "baggage": "k=v"}),
        ),
        (PARENT, "FOO", "k", json!({"traceparent": PARENT})),
        ("00-1-2-01", "foo=1", "k=v", json!({"baggage": "k=v"})),
    ] {
        let event = Event::new("a").metadata("traceparent", parent).metadata("tracestate", state);
        bus.publish(event.metadata("baggage", bags).metadata("own", "1")).await.unwrap();
        let said: BTreeMap<_, _> = heard.events().pop().unwrap().metadata().clone();
        assert_eq!(json!(said), wanted);
    }
    // What says of itself which trace it is in takes no other's state.
    let own = "00-99999999999999999999999999999999-9999999999999999-00";
    scope("s").metadata("traceparent", PARENT).metadata("tracestate", "foo=1").run_sync(|| {
        assert_eq!(context::current().unwrap().trace().state(), Some("foo=1"));
        bus.on("c").run(heard.clone()).now().unwrap();
        bus.on("d").run(|bus: Bus| bus.emit(Event::new("never")).map(drop)).now().unwrap();
    });
    let published = scope("s").metadata("traceparent", PARENT).metadata("tracestate", "foo=1");
    published.run(bus.publish(Event::new("c").metadata("traceparent", own))).await.unwrap();
    assert_eq!(json!(heard.events().pop().unwrap().metadata()), json!({"traceparent": own}));
}
