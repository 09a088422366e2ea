//! `railbus runs`: what became of runs of pipelines, and what can be done about it.

use super::{Scene, text};
use railbus::{
    Bus,
    backend::{
        Begun, Journal, NewRun, Record, RecordStatus, RunEnd, RunError, RunLease, Told, Went,
    },
    json, store,
};
use std::{sync::Arc, time::Duration};

const URL: &str = "sqlite:a.db";

/// Does something in the journal of the scene's store, as a program of its own would.
fn with_journal<F: Future>(scene: &Scene, work: impl FnOnce(Arc<dyn Journal>) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite:{}", scene.path("a.db").display());
        let bus = Bus::open(&url).await.unwrap();
        let done = work(bus.journal().unwrap()).await;
        bus.close().await.unwrap();
        done
    })
}

async fn begin(journal: &dyn Journal, id: &str) -> RunLease {
    let mut run = NewRun::new(id, "fulfil", "charge -> ship -> tell");
    (run.version, run.owner, run.lease) = ("7f".into(), "host-1".into(), Duration::from_secs(3600));
    run.input = store! { "order" => json!({ "id": 7, "note": "be\u{1b}[31mware" }) };
    match journal.begin(&run).await.unwrap() {
        Begun::New(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// A scene with a run that failed, one that was left after its first step, and one that runs.
fn scene() -> Scene {
    let scene = Scene::new();
    with_journal(&scene, |journal| async move {
        let lease = begin(&*journal, "failed").await;
        let mut charge = Record::new("charge", 1);
        charge.duration = Duration::from_millis(1500);
        charge.values = store! { "receipt" => "R-1" };
        let mut ship = Record::new("ship", 2);
        (ship.status, ship.tries) = (RecordStatus::Failure, 3);
        ship.went = Went::Goto { to: "tell".into(), reason: "no ink".into(), failed: true };
        let error = RunError::new("failure", "no \u{1b}[31mink\nin line two");
        ship.error = Some(error.clone());
        let told = journal.record(&lease, &[charge, ship]).await.unwrap();
        assert_eq!(told, Told::GoOn);
        journal.end(&lease, RunEnd::Failure, Some(error)).await.unwrap();
        let lease = begin(&*journal, "left").await;
        let _ = journal.record(&lease, &[Record::new("charge", 1)]).await.unwrap();
        journal.release(&lease).await.unwrap();
        begin(&*journal, "running").await;
    });
    scene
}

fn ids(scene: &Scene, filter: &[&str]) -> String {
    let found = scene.json(&[&["runs", "ls", URL], filter].concat());
    found.iter().map(|run| text(run, "id")).collect::<Vec<_>>().join(" ")
}

#[test]
fn runs_are_listed_by_status_and_pipeline_and_page() {
    let scene = scene();
    assert_eq!(ids(&scene, &[]), "running left failed");
    assert_eq!(ids(&scene, &["--status", "left,failure"]), "left failed");
    assert_eq!(ids(&scene, &["--pipeline", "ful*", "--limit", "1"]), "running");
    assert_eq!(ids(&scene, &["--after", "left"]), "failed");
    assert_eq!(ids(&scene, &["--pipeline", "other"]), "");
    let failed = scene.json(&["runs", "ls", URL, "--status", "failure"]).remove(0);
    assert_eq!((text(&failed, "pipeline"), text(&failed, "version")), ("fulfil", "7f"));
    assert_eq!((&failed["records"], &failed["resumed"]), (&json!(2), &json!(0)));
    assert_eq!(failed["error"]["kind"], "failure");

    let ran = scene.run(&["runs", "ls", URL, "--limit", "3"]);
    for part in ["id", "status", "running  ", "left", "failed", "no [31mink in line two"] {
        assert!(ran.out.contains(part), "no {part} in {}", ran.out);
    }
    assert!(!ran.out.contains('\u{1b}'), "{}", ran.out);
    assert!(ran.err.contains("3 runs · next: "), "{}", ran.err);
    assert!(ran.err.contains("runs show sqlite:a.db running"), "{}", ran.err);
    assert!(ran.err.contains("older ones: --after failed"), "{}", ran.err);

    let said = scene.broken(&["runs", "ls", URL, "--status", "lost,left"]);
    assert!(said.contains("`lost` is no run state"), "{said}");
    let said = scene.broken(&["runs", "ls", URL, "--status", "falure"]);
    assert!(said.contains("did you mean `failure`?") && said.contains("cancelled"), "{said}");
}

#[test]
fn a_run_is_shown_with_its_steps_and_where_it_goes_on() {
    let scene = scene();
    let page = scene.ok(&["runs", "show", URL, "failed"]);
    for part in [
        "run           failed",
        "pipeline      fulfil, graph 7f",
        "status        failure",
        "charge -> ship -> tell",
        "\"id\": 7",
        "charge  1      success  1      1.500 s  next, with receipt",
        "ship    2      failure  3      0.000 s  goto tell (no ink)  no [31mink in line two",
    ] {
        assert!(page.contains(part), "no `{part}` in {page}");
    }
    assert!(!page.contains('\u{1b}') && !page.contains("goes on"), "{page}");
    let left = scene.ok(&["runs", "show", URL, "left"]);
    assert!(left.contains("goes on       after charge"), "{left}");
    let running = scene.run(&["runs", "show", URL, "running"]);
    assert!(running.out.contains("goes on       at its beginning"), "{}", running.out);
    assert!(running.out.contains("runs in       host-1, leased for 35"), "{}", running.out);
    assert!(running.err.contains("runs cancel sqlite:a.db running"), "{}", running.err);

    let run = scene.json(&["runs", "show", URL, "failed"]).remove(0);
    assert_eq!(run["input"], json!({ "order": { "id": 7, "note": "be\u{1b}[31mware" } }));
    let ship = &run["steps"][1];
    assert_eq!(
        (text(ship, "step"), &ship["visit"], &ship["tries"]),
        ("ship", &json!(2), &json!(3))
    );
    let went = json!({ "goto": { "to": "tell", "reason": "no ink", "failed": true } });
    assert_eq!((&ship["then"], &ship["number"]), (&went, &json!(2)));
    assert_eq!(run["steps"][0]["values"], json!({ "receipt": "R-1" }));
    assert_eq!(run["goes_on"], json!(null));

    let said = scene.broken(&["runs", "show", URL, "none"]);
    assert!(said.contains("no such run") && said.contains("there are running, left, failed"));
}

#[test]
fn where_a_run_goes_on_is_read_in_its_graph() {
    let scene = Scene::new();
    let graph = "pipeline p\ncharge >charge 0:refund -> ship\nrefund >refund -> ship\n\
                 ship >ship small:post -> tell\npost >post -> tell\n\
                 tell >tell goto:ship runs {pipeline x; a >a 1:b -> c} -> end\n";
    let last = |path: &str, status, went: Went| {
        let mut record = Record::new(path, 1);
        (record.status, record.went) = (status, went);
        record
    };
    let ok = RecordStatus::Success;
    let jump = Went::Goto { to: "ship".into(), reason: "again".into(), failed: false };
    let cases = [
        (vec![], "at charge, its beginning"),
        (vec![last("charge", ok, Went::Next)], "at ship, after charge"),
        (vec![last("charge", RecordStatus::Failure, Went::Next)], "at refund, after charge"),
        (vec![last("ship", ok, Went::Branch("small".into()))], "at post, the branch small of ship"),
        (vec![last("ship", RecordStatus::Skipped, Went::Skip)], "at tell, after ship"),
        (vec![last("tell", ok, jump)], "at ship, where tell goes to"),
        (vec![last("tell", ok, Went::Next)], "after tell"),
        (vec![last("tell/a", ok, Went::Next)], "after tell/a"),
        (
            vec![last("charge", ok, Went::Next), last("tell?", RecordStatus::Decision, Went::Next)],
            "at ship, after charge",
        ),
    ];
    for (n, (records, expected)) in cases.iter().enumerate() {
        let id = format!("run-{n}");
        with_journal(&scene, |journal| async move {
            let mut run = NewRun::new(&id, "p", graph);
            run.owner = "host-1".into();
            let Begun::New(lease) = journal.begin(&run).await.unwrap() else { panic!() };
            let _ = journal.record(&lease, records).await.unwrap();
            journal.release(&lease).await.unwrap();
        });
        let run = scene.json(&["runs", "show", URL, &format!("run-{n}")]).remove(0);
        assert_eq!(run["goes_on"], json!(expected), "{records:?}");
    }
    // Others read the document: no key of it goes or is named anew.
    let run = scene.json(&["runs", "show", URL, "run-1"]).remove(0);
    let keys = |value: &serde_json::Value| {
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    let expected = "id pipeline version status owner lease_left_seconds resumed cancel_asked \
                    idle_seconds began_at ended_at records error graph goes_on input steps";
    assert_eq!(keys(&run), expected);
    let expected = "number at step visit status tries seconds then values";
    assert_eq!(keys(&run["steps"][0]), expected);
}

#[test]
fn a_run_is_cancelled_at_once_or_asked_to_end() {
    let scene = scene();
    let cancel = |id| scene.json(&["runs", "cancel", URL, id]).remove(0);
    let asked = json!({ "run": "running", "was": "running", "asked": true, "cancelled": false });
    assert_eq!(cancel("running"), asked);
    let left = json!({ "run": "left", "was": "left", "asked": false, "cancelled": true });
    assert_eq!(cancel("left"), left);
    assert_eq!(ids(&scene, &["--status", "cancelled"]), "left");
    let ran = scene.run(&["runs", "cancel", URL, "failed"]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("nothing to do: run failed has ended, failure"), "{}", ran.err);
    let table = scene.ok(&["runs", "ls", URL]);
    assert!(table.contains("running, to be cancelled"), "{table}");
    let told = with_journal(&scene, |journal| async move {
        let lease = RunLease { run: "running".into(), fence: 1, lease: Duration::from_secs(9) };
        journal.renew(&lease).await.unwrap()
    });
    assert_eq!(told, Told::Cancel);
    let said = scene.broken(&["runs", "cancel", URL, "none"]);
    assert!(said.contains("no such run"), "{said}");
}

#[test]
fn old_runs_are_deleted_and_looking_deletes_none() {
    let scene = scene();
    let prune = |args: &[&str]| scene.json(&[&["runs", "prune", URL], args].concat()).remove(0);
    let done = |pruned: u64, dry_run: bool| json!({ "pruned": pruned, "dry_run": dry_run });
    assert_eq!(prune(&["--older-than", "30d"]), done(0, false));
    assert_eq!(prune(&["--older-than", "0s", "--dry-run"]), done(1, true));
    let both = ["--older-than", "0s", "--status", "left,failure"];
    assert_eq!(prune(&[&both[..], &["--dry-run"]].concat()), done(2, true));
    assert_eq!(ids(&scene, &[]), "running left failed");
    assert_eq!(prune(&["--older-than", "0s"]), done(1, false));
    assert_eq!(ids(&scene, &[]), "running left");
    assert_eq!(prune(&both), done(1, false));
    assert_eq!(ids(&scene, &[]), "running");
    let ran = scene.run(&["runs", "prune", URL, "--older-than", "0s"]);
    assert!(ran.err.contains("nothing to do"), "{}", ran.err);
    let said = scene.broken(&["runs", "prune", URL, "--older-than", "1h", "--status", "running"]);
    assert!(said.contains("is never deleted"), "{said}");
    let said = scene.broken(&["runs", "prune", URL, "--older-than", "a while"]);
    assert!(said.contains("`a while` is not a duration"), "{said}");
    assert_eq!(scene.run(&["runs", "prune", URL]).code, 2);
}

#[test]
fn a_store_without_runs_or_no_store_says_so() {
    let scene = Scene::with_events(&["t"]);
    let ran = scene.run(&["runs", "ls", URL]);
    assert_eq!((ran.code, &*ran.out), (0, ""));
    assert!(ran.err.contains("no run matches"), "{}", ran.err);
    let said = scene.broken(&["runs", "show", URL, "a"]);
    assert!(said.contains("the store has no runs"), "{said}");
    assert!(scene.broken(&["runs", "ls", "sqlite:none.db"]).contains("no such store"));
    assert!(scene.broken(&["runs", "ls", "memory:"]).contains("name a store: sqlite:PATH"));
    let said = scene.broken(&["runs", "resume", "app.toml", "a"]);
    assert!(said.contains("there is no such file"), "{said}");
}
