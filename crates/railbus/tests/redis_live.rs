//! What a bus on Redis's pub/sub hears, and what is not meant for it.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, testing::Recorder};
use railbus_testbed::Redis;

async fn listen(url: &str) -> (Bus, Recorder) {
    let (bus, heard) = (Bus::open(url).await.unwrap(), Recorder::new());
    bus.on("*").run(heard.clone()).await.unwrap();
    (bus, heard)
}

fn topics(heard: &Recorder) -> Vec<String> {
    heard.events().iter().map(|event| event.topic().to_owned()).collect()
}

#[railbus::test]
async fn a_prefix_hears_nothing_of_one_that_goes_on_from_it() {
    let redis = Redis::start().unwrap();
    for format in ["cloudevents", "dataknobs"] {
        let at = |prefix: &str| format!("{}?prefix={prefix}&format={format}", redis.url("redis"));
        let (short, by_short) = listen(&at("a")).await;
        let (long, by_long) = listen(&at("a:b")).await;
        // Of the second the topic is the type, which is left out where it can be.
        long.publish(Event::new("t").topic("c").payload(1)).await.unwrap();
        long.publish(Event::new("d").payload(2)).await.unwrap();
        short.publish(Event::new("t").topic("b:c").payload(3)).await.unwrap();
        short.publish(Event::new("b:d").payload(4)).await.unwrap();
        for bus in [&short, &long] {
            bus.idle().await.unwrap();
        }
        assert_eq!(topics(&by_short), ["b:c", "b:d"], "{format}");
        assert_eq!(topics(&by_long), ["c", "d"], "{format}");
    }
}

#[railbus::test]
async fn what_names_no_topic_is_of_the_channel_it_came_on() {
    let redis = Redis::start().unwrap();
    let url = redis.url("redis");
    let (cloud, by_cloud) = listen(&format!("{url}?prefix=c")).await;
    let (plain, by_plain) = listen(&format!("{url}?prefix=p&format=plain")).await;
    let (nested, by_nested) = listen(&format!("{url}?prefix=p:q&format=plain")).await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    for (channel, text) in [("c:x:y", event), ("p:q:r", "1"), ("p:s", "2")] {
        redis.command(&["PUBLISH", channel, text]).unwrap();
    }
    for bus in [&cloud, &plain, &nested] {
        bus.idle().await.unwrap();
    }
    assert_eq!(topics(&by_cloud), ["x:y"]);
    // Nothing in a plain message says whose it is.
    assert_eq!(topics(&by_plain), ["q:r", "s"]);
    assert_eq!(topics(&by_nested), ["r"]);
}
