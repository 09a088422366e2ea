//! Real lifecycle events, held against the schemas that document them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Cancel, Event, Failure, Flow, IntoStep, Map, Pipeline, PipelineBuilder, Retry, StepDef,
    Type, Value, any, each, json, parallel, repeat, step, step::Input, store,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

const TYPES: [&str; 9] = [
    Type::PIPELINE_START,
    Type::PIPELINE_END,
    Type::PIPELINE_ERROR,
    Type::STEP_START,
    Type::STEP_END,
    Type::STEP_ERROR,
    Type::STEP_RETRY,
    Type::STEP_SKIPPED,
    Type::HANDLER_ERROR,
];

fn schema(event_type: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schemas/lifecycle");
    let text = std::fs::read_to_string(format!("{folder}/{event_type}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns what is wrong with a value by a schema. Knows the keywords that these schemas use, and
/// no other: one that it doesn't know is wrong as well, so that none is passed over.
fn wrong(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let (schema, mut found) = (schema.as_object().unwrap(), Vec::new());
    for (keyword, says) in schema {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => match says {
                Value::Array(types) => types.iter().any(|of| is_of(of, value)),
                of => is_of(of, value),
            },
            "enum" => says.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= says.as_f64().unwrap()),
            "required" => {
                let has = |key: &Value| value.get(key.as_str().unwrap()).is_some();
                says.as_array().unwrap().iter().all(has)
            }
            "additionalProperties" => {
                assert_eq!(*says, json!(false));
                let known = schema["properties"].as_object().unwrap();
                value.as_object().is_none_or(|map| map.keys().all(|key| known.contains_key(key)))
            }
            "properties" => {
                for (key, schema) in says.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        found.extend(wrong(schema, value, &format!("{at}/{key}")));
                    }
                }
                true
            }
            _ => false,
        };
        if !holds {
            found.push(format!("{at}: {keyword} {says} of {value}"));
        }
    }
    found
}

fn is_of(of: &Value, value: &Value) -> bool {
    match of.as_str().unwrap() {
        "object" => value.is_object(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        _ => false,
    }
}

fn says(name: &str) -> StepDef {
    let value = name.to_owned();
    StepDef::value(name, move |_| value.clone())
}

fn fails(name: &str) -> StepDef {
    StepDef::fallible(name, |_| Err(Failure::new("no").value(7).into()))
}

fn throws(name: &str) -> StepDef {
    StepDef::fallible(name, |_| Err("broken".into()))
}

#[step]
fn check(n: i64) -> Result<i64, Failure> {
    if n == 2 { Err(Failure::new("two")) } else { Ok(n) }
}

#[step(goto = ["end"])]
fn jump(n: i64) -> Flow {
    Flow::goto("end", n).reason("far").failed().into()
}

type Heard = Arc<Mutex<Vec<(String, String, Value)>>>;

fn hear(bus: &Bus) -> Heard {
    let heard = Heard::default();
    let lines = Arc::clone(&heard);
    let hears = move |e: &Event| {
        let payload = Value::Object(e.to_map().unwrap())["payload"].clone();
        lines.lock().unwrap().push((e.event_type().to_owned(), e.source().to_owned(), payload));
    };
    bus.on(any()).run(hears).now().unwrap();
    heard
}

fn pipelines() -> Vec<PipelineBuilder> {
    let p = || Pipeline::new("p");
    let again = Retry::attempts(3).backoff_factor(Duration::ZERO);
    let inner = p().step(says("in")).build().unwrap();
    let asks = |_: &Input<'_>| Err::<bool, _>(Failure::new("who knows"));
    let wait = StepDef::value("wait", |_| 1).timeout(Duration::from_secs(1));
    let branch = StepDef::value("take", |_| Flow::branch("late", 1));
    vec![
        p().step(says("a")).step(throws("t").retry(again)).step(says("b")),
        p().step(fails("f")).on_failure(says("mend")).step(says("stop").stop_on_success(true)),
        p().step(says("a").stop_on_success(true)).step(says("b")),
        p().step(branch).on_label("late", says("b")).lenient(),
        p().step(jump).step(says("b")).step(StepDef::value("end", |_| 1)),
        p().step(parallel((says("a"), fails("f"), repeat(says("r")).times(2)))).step(says("b")),
        p().step(each("items", check)),
        p().step(each("fine", check)),
        p().step(inner).step(says("a").bypass(|_| true)).step(says("c").only_if(|_| false)),
        p().step(says("a").once()).step(StepDef::value("s", |_| Flow::Skip)).step(wait),
        p().step(says("a").only_if(asks)),
        p().step(says("a")).input::<u64>("missing"),
        p().step(StepDef::value("boom", |_| -> i32 { panic!("boom") })),
    ]
}

#[tokio::test]
async fn every_event_is_as_its_schema_says() {
    let bus = Bus::new();
    let heard = hear(&bus);
    let again = Retry::attempts(2).backoff_factor(Duration::ZERO);
    bus.on("order").retry(again).run(|_: &Event| Err::<(), _>("no")).await.unwrap();
    for builder in pipelines() {
        for builder in [builder.clone().observe(&bus), builder.observe(&bus).observe_values()] {
            let pipeline = builder.build().unwrap();
            let store = || store! { "n" => 1_i64, "items" => [1, 2, 3], "fine" => [1, 3] };
            let (cancel, _) = (Cancel::new(), pipeline.run(store()).await);
            cancel.cancel();
            let _ = (pipeline.run(store()).await, pipeline.run(store()).cancel_on(&cancel).await);
        }
    }
    let hang = StepDef::value("hang", |_| 1).executor(Hang);
    let hang = Pipeline::new("p").step(hang).observe(&bus).build().unwrap();
    let _ = hang.run(store! {}).timeout(Duration::from_millis(1)).await;
    let _ = bus.publish(Event::new("order").payload(1)).await.unwrap();
    bus.idle().await.unwrap();
    let (heard, mut seen) = (heard.lock().unwrap().clone(), BTreeSet::new());
    for (event_type, source, payload) in heard.iter().filter(|(of, ..)| of != "order") {
        let found = wrong(&schema(event_type), payload, event_type);
        assert!(found.is_empty(), "{source}: {}\n{payload}", found.join("\n"));
        let says = ["status", "reason"].map(|key| payload[key].as_str().unwrap_or("").to_owned());
        seen.insert((event_type.clone(), says[0].clone()));
        seen.insert((event_type.clone(), says[1].clone()));
        seen.extend(payload.as_object().unwrap().keys().map(|k| (event_type.clone(), k.clone())));
    }
    // Every type, field and status that a schema knows was seen, so that none is there for nothing.
    for event_type in TYPES {
        let schema = schema(event_type);
        for (field, says) in schema["properties"].as_object().unwrap() {
            let mut wanted = vec![field.as_str()];
            let all = says.get("enum").and_then(Value::as_array);
            wanted.extend(all.into_iter().flatten().filter_map(Value::as_str));
            for wanted in wanted {
                let what = (event_type.to_owned(), wanted.to_owned());
                assert!(seen.contains(&what), "never seen: {what:?}");
            }
        }
    }
}

/// Never ends.
#[derive(Debug)]
struct Hang;

#[async_trait::async_trait]
impl railbus::executor::Executor for Hang {
    async fn execute(&self, _: railbus::executor::Task) -> railbus::StepResult {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_step_s_place_is_that_in_the_pipeline_whatever_groups_are_around_it() {
    let bus = Bus::new();
    let heard = hear(&bus);
    let group = parallel((says("a"), parallel((says("b"), says("c")))));
    let named = parallel((says("d"), says("e"))).into_step().named("named");
    let pipeline = Pipeline::new("p").step(group).step(named).step(says("f")).observe(&bus);
    let pipeline = pipeline.build().unwrap();
    let _ = pipeline.run(store! {}).await;
    let places: Vec<&str> = pipeline.steps().collect();
    let heard = heard.lock().unwrap();
    let starts: Vec<_> = heard.iter().filter(|(of, ..)| of == Type::STEP_START).collect();
    // One for each of six steps, and one for the group with a name.
    assert_eq!(starts.len(), 7);
    for (_, source, payload) in starts {
        let place = usize::try_from(payload["index"].as_u64().unwrap()).unwrap();
        assert_eq!(format!("p.{}", places[place]), *source);
    }
}

#[test]
fn a_schema_finds_what_is_wrong() {
    let good = json!({"index": 0, "attempt": 1, "duration": 0.5, "status": "success"});
    let step_end = schema(Type::STEP_END);
    assert_eq!(wrong(&step_end, &good, ""), Vec::<String>::new());
    for (key, value) in [
        ("index", json!(-1)),
        ("index", json!("0")),
        ("status", json!("fine")),
        ("more", json!(1)),
        ("items", json!({"succeeded": 1})),
        ("duration", Value::Null),
    ] {
        let mut bad: Map<String, Value> = good.as_object().unwrap().clone();
        bad.insert(key.into(), value);
        assert!(!wrong(&step_end, &Value::Object(bad), "").is_empty(), "{key}");
    }
    assert!(!wrong(&step_end, &json!({"index": 0}), "").is_empty());
    assert!(!wrong(&json!({"maximum": 3}), &json!(1), "").is_empty());
    let names =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schemas/lifecycle"));
    assert_eq!(names.unwrap().count(), TYPES.len());
}
