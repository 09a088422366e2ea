//! What midil's own tests assert of its context, asserted here.
#![allow(clippy::unwrap_used)]

use railbus::{
    Context, Event,
    context::{self, Scope, current, scope},
};
use std::collections::BTreeSet;
use tokio::task::yield_now;

fn of(scope: Scope) -> Context {
    scope.run_sync(|| current().unwrap())
}

#[test]
fn a_context_has_an_id_a_type_and_no_parent_unless_it_is_said() {
    let context = of(scope("user.created").id("e-1"));
    assert_eq!((context.id(), context.event_type()), ("e-1", "user.created"));
    assert!(context.parent().is_none());
    let child = of(scope("child").parent(Some(context.clone())));
    assert_eq!(child.parent().unwrap().id(), context.id());
    for name in ["user.created", "API_CALL", ""] {
        assert_eq!(of(scope(name)).event_type(), name);
    }
}

#[test]
fn a_chain_of_parents_is_kept() {
    let top = of(scope("a").id("1"));
    let middle = of(scope("b").id("2").parent(Some(top)));
    let last = of(scope("c").id("3").parent(Some(middle)));
    let ids: Vec<_> =
        std::iter::successors(Some(&last), |context| context.parent()).map(Context::id).collect();
    assert_eq!(ids, ["3", "2", "1"]);
}

#[test]
fn scopes_with_equal_fields_are_two() {
    let alike = || scope("a").id("1");
    alike().metadata("of", "first").run_sync(|| {
        let second = of(alike().parent(None));
        assert!(second.metadata().is_empty());
        assert_eq!(current().unwrap().metadata()["of"], "first");
    });
}

#[test]
fn a_context_shows_what_it_is_and_what_is_around_it() {
    let inner = of(scope("b").id("2").parent(Some(of(scope("a").id("1")))));
    assert_eq!(format!("{inner:?}"), "Context(b 2 in Context(a 1))");
}

#[test]
fn outside_there_is_none_and_inside_there_is_the_one() {
    assert!(current().is_none());
    let scope = scope("a").id("1");
    scope.run_sync(|| assert_eq!(current().unwrap().id(), "1"));
    assert!(current().is_none());
}

#[test]
fn ids_are_new_for_each_scope() {
    let ids: BTreeSet<_> = (0..100).map(|_| of(scope("a")).id().to_owned()).collect();
    assert_eq!(ids.len(), 100);
    let digits = |id: &String| id.chars().filter(char::is_ascii_hexdigit).count() == 32;
    assert!(ids.iter().all(digits));
}

#[railbus::test]
async fn within_a_scope_it_is_the_parent_and_behind_it_is_what_it_was() {
    let outer = scope("outer").id("1").run(async {
        assert!(current().unwrap().parent().is_none());
        let inner = scope("inner").id("2").run(async {
            yield_now().await;
            assert_eq!(current().unwrap().id(), "2");
            assert_eq!(current().unwrap().parent().unwrap().id(), "1");
        });
        inner.await;
        assert_eq!(current().unwrap().id(), "1");
    });
    outer.await;
    assert!(current().is_none());
}

#[test]
fn a_parent_that_is_said_wins_and_none_makes_a_root() {
    let other = of(scope("other").id("o"));
    scope("outer").id("1").run_sync(|| {
        let said = of(scope("inner").parent(Some(other.clone())));
        assert_eq!(said.parent().unwrap().id(), "o");
        assert!(of(scope("inner").parent(None)).parent().is_none());
        assert_eq!(of(scope("inner")).parent().unwrap().id(), "1", "else the one around it");
    });
}

#[railbus::test]
async fn it_ends_also_with_an_error_which_goes_on() {
    let fails = async |name: &str| {
        scope(name)
            .run(async {
                yield_now().await;
                Err::<(), _>("no")
            })
            .await
    };
    assert_eq!(fails("a").await, Err("no"));
    assert!(current().is_none());
    let panics = scope("a").run(async { panic!("no") });
    let panic = tokio::spawn(panics).await.unwrap_err();
    assert!(panic.is_panic() && current().is_none());
}

#[railbus::test]
async fn three_levels_end_one_by_one() {
    let here = || current().map(|context| context.id().to_owned());
    let mut seen = Vec::new();
    let work = scope("a").id("1").run(async {
        seen.push(here());
        scope("b")
            .id("2")
            .run(async {
                seen.push(here());
                scope("c").id("3").run(async { seen.push(here()) }).await;
                seen.push(here());
            })
            .await;
        seen.push(here());
    });
    work.await;
    seen.push(here());
    let seen: Vec<_> = seen.into_iter().map(Option::unwrap_or_default).collect();
    assert_eq!(seen, ["1", "2", "3", "2", "1", ""]);
}

#[railbus::test]
async fn five_tasks_see_each_their_own() {
    let look = |n: usize| {
        let work = scope(format!("type-{n}")).id(format!("id-{n}"));
        tokio::spawn(work.run(async move {
            for _ in 0..5 {
                let here = current().unwrap();
                let (id, kind) = (format!("id-{n}"), format!("type-{n}"));
                assert_eq!((here.id(), here.event_type()), (&*id, &*kind));
                yield_now().await;
            }
        }))
    };
    for task in (0..5).map(look).collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// The document's example: a request, what it does at once, and a log line of each.
#[railbus::test]
async fn the_documents_example_of_nested_work_keeps_the_correlation_id() {
    let work = scope("user.created").correlation_id("req_123").data(railbus::json!({"id": 7}));
    let told = work.run(async {
        let step = async |name: &'static str| {
            scope(name)
                .run(async {
                    yield_now().await;
                    let here = current().unwrap();
                    let parent = here.parent().unwrap().event_type().to_owned();
                    (here.correlation_id().to_owned(), parent)
                })
                .await
        };
        let spawned = context::spawn(async {
            yield_now().await;
            current().unwrap().data().get::<railbus::Value>().unwrap()["id"].clone()
        });
        let (mail, profile) = tokio::join!(step("send.mail"), step("make.profile"));
        (mail, profile, spawned.await.unwrap())
    });
    let (mail, profile, id) = told.await;
    let expected = ("req_123".to_owned(), "user.created".to_owned());
    assert_eq!((mail, profile, id), (expected.clone(), expected, railbus::json!(7)));
    let bus = railbus::Bus::new();
    let see = |event: &Event| assert_eq!(event.correlation_id(), "req_123");
    bus.on("next").run(see).now().unwrap();
    let publish = || bus.emit(Event::new("next")).unwrap().matched;
    assert_eq!(scope("work").correlation_id("req_123").run_sync(publish), 1);
}
