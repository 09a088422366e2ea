//! Flows as text, run: the order that the document's table says, and what it refuses.

use crate::{fails, flow, path, refused, says, throws};
use railbus::{Flow, IntoStep, RunReport, Status, StepDef, Steps, Value, json, step, store};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// Takes what is piped to it, if anything is.
#[step]
fn letter(given: Option<&Value>) -> bool {
    given.is_some()
}

/// Steps A to G, and `yes`, `no` and `oops`, which end as they say.
fn steps() -> Steps {
    let letters = ["A", "B", "C", "D", "E", "F", "G"].map(|name| letter.named(name));
    let steps = letters.into_iter().fold(Steps::new(), Steps::add);
    steps.add(says("yes")).add(fails("no")).add(throws("oops"))
}

async fn run(text: &str, steps: &Steps) -> RunReport {
    flow(text, steps).build().unwrap().run(store! {}).await
}

#[tokio::test]
async fn every_text_of_the_documents_table_runs_in_the_order_it_says() {
    let steps = steps();
    for (text, way) in [
        ("A -> B", "A B"),
        ("A || B || C", "A B C"),
        ("A -> B || C -> D", "A B C D"),
        ("no(0 -> B, 1 -> C)", "no B"),
        ("oops(0 -> B, 1 -> C)", "oops B"),
        ("yes(0 -> B, 1 -> C)", "yes C"),
        ("no(0 -> B, 1 -> C) -> D", "no B D"),
        ("yes(0 -> B, 1 -> C) -> D", "yes C D"),
        ("no(0 -> B -> C, 1 -> D || E |-> F) -> G", "no B C G"),
        ("yes(0 |-> B, 1 -> C)", "yes C"),
        ("yes(0 -> B, 1 -> C) * 3", "yes C"),
        ("A -> no(0 -> yes(0 |-> B, 1 -> C), 1 -> D) -> E(0 -> F, 1 -> G)", "A no yes C E G"),
    ] {
        let report = run(text, &steps).await;
        assert_eq!((path(&report).as_str(), report.status()), (way, Status::Success), "{text}");
    }
}

#[tokio::test]
async fn what_the_document_could_not_read_runs_as_one_would_think() {
    let steps = steps();
    for (text, way) in [
        ("no(0 -> B)", "no B"),
        ("yes(0 -> B) -> C", "yes C"),
        ("{A || B} -> C", "A B C"),
        ("A -> (B || C) -> D", "A B C D"),
        ("yes * 3 (0 -> B, 1 -> C)", "yes C"),
        ("yes(0 -> B, 1 -> C) || D -> E", "yes C D E"),
        ("A || B -> C", "A B C"),
    ] {
        let report = run(text, &steps).await;
        assert_eq!((path(&report).as_str(), report.status()), (way, Status::Success), "{text}");
    }
}

#[tokio::test]
async fn what_is_piped_is_the_value_of_the_step_before_or_the_list_of_a_groups() {
    let value = |name: &str| {
        let step = StepDef::fallible(name, |input| {
            Ok(Flow::next(input.get::<Value>("given")?.to_string()))
        });
        step.needs::<Value>("given")
    };
    let steps = Steps::new().add(says("A")).add(says("B")).add(value("X")).add(value("Y"));
    let report = run("A |-> X", &steps).await;
    assert_eq!(*report.get::<String>("X").unwrap(), "\"A\"");
    let report = run("A || B |-> X", &steps).await;
    assert_eq!(*report.get::<String>("X").unwrap(), "[\"A\",\"B\"]");
    let report = run("A |-> X || Y", &steps).await;
    assert_eq!(*report.get::<String>("X").unwrap(), "\"A\"");
    assert_eq!(*report.get::<String>("Y").unwrap(), "\"A\"");
}

#[tokio::test]
async fn a_factor_before_or_after_a_step_is_how_often_it_is_tried_in_all() {
    for text in ["A * 2", "2 * A"] {
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        let step = StepDef::fallible("A", move |_| {
            count.fetch_add(1, Relaxed);
            Err("broken".into())
        });
        let soon = json!({"max_attempts": 9, "backoff_factor": 0.001});
        let report = run(text, &Steps::new().add(step.retry(soon))).await;
        assert_eq!((report.steps()[0].tries, calls.load(Relaxed)), (2, 2), "{text}");
    }
}

#[test]
fn every_text_that_the_document_refuses_or_takes_wrongly_is_refused_when_it_is_built() {
    let steps = steps();
    for text in [
        "A*3*2",
        "A(10->B,1->C)",
        "A(10->C,40->B)",
        "1*A",
        "A*1",
        "1 * A -> B * 0",
        "-1 * A",
        "A ->",
        "-> A",
        "A B",
        "",
        "3*4",
        "A*B",
        "A-b->C",
        "A(B->C,D->E)",
        "A(0->B,0->C)",
        "0->A",
        "A;->B",
        "Ärger",
    ] {
        assert!(flow(text, &steps).build().is_err(), "{text} is built");
    }
    assert!(refused(flow("A -> H", &steps)).contains("there is no step `H`"));
}

#[test]
fn a_line_a_group_and_branches_have_the_steps_that_stand_there() {
    let steps = steps();
    let names = |text: &str| {
        let built = flow(text, &steps).build().unwrap();
        built.steps().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("A->B->C"), "A B C");
    assert_eq!(names("A||B|->C"), "A B C");
    assert_eq!(names("A(0->B,1->C)->D"), "A B C D");
}
