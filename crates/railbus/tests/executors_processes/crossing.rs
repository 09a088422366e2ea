//! What crosses to a worker and back, and which worker it is.

use super::{Case, error, run, runtime};
use futures_util::future::join_all;
use railbus::{
    BoxError, Context, Event, Failure, Flow, Pipeline, State, Status, StepError, StepResult,
    context, executors::Processes, json, step, step::Exception, store,
};
use std::{
    collections::BTreeSet,
    io::{Read, stdin},
    process::id,
    sync::{Arc, Mutex},
    time::Duration,
};
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer, prelude::*, registry::LookupSpan};

pub(crate) const CASES: &[Case] = &[
    ("values cross, of any length", values_cross),
    ("what a step comes to crosses", outcomes_cross),
    ("event, context and tries cross", causes_cross),
    ("log lines come back, in the run's context", log_lines_come_back),
    ("log lines on threads are the run's own", log_lines_on_threads_are_the_runs),
    ("what is printed and read is no message", prints_and_reads_are_no_messages),
    ("equal descriptions share workers", pools_are_shared),
    ("a worker is replaced after its tasks", workers_are_replaced),
    ("workers run at once, up to their number", workers_run_at_once),
    ("states are the worker's own", states_are_the_workers),
];

#[step]
pub(crate) fn pid() -> u32 {
    id()
}

#[step]
pub(crate) fn sum(data: &[i64], start: Option<i64>) -> i64 {
    data.iter().sum::<i64>() + start.unwrap_or_default()
}

#[step]
pub(crate) async fn later(n: u32) -> u32 {
    // sleep: that timers run in a worker is what is tested.
    tokio::time::sleep(Duration::from_millis(1)).await;
    2 * n
}

#[step]
pub(crate) fn falls(how: &str) -> Result<Flow, StepError> {
    match how {
        "says no" => Err(Failure::new("no").value(json!({"code": 51})).because("no money").into()),
        "errs" => {
            let source: BoxError = "the line is cut".into();
            let error = std::io::Error::other(source);
            Err(StepError::Exception(Exception::new("network", error)))
        }
        "panics" => panic!("it tripped"),
        "stops" => Ok(Flow::stop(1)),
        "skips" => Ok(Flow::Skip),
        _ => Ok(Flow::Next(None)),
    }
}

#[step]
pub(crate) fn goes() -> Flow {
    Flow::branch("premium", 7)
}

/// Says who caused it.
#[step]
pub(crate) fn who(event: &Event, around: Context) -> Vec<String> {
    let published = context::current().unwrap().event().correlation_id().to_owned();
    vec![event.id().into(), around.event_type().into(), published, around.correlation_id().into()]
}

#[step]
pub(crate) fn prints() -> usize {
    println!("printed");
    print!("\0RB and not ended");
    stdin().read_to_end(&mut Vec::new()).unwrap()
}

#[step]
pub(crate) fn logs() {
    tracing::info!(answer = 42, "it is so");
    tracing::debug!("nobody wants to know");
}

#[step]
pub(crate) fn greets(greeting: State<String>, name: &str) -> String {
    format!("{}, {name}", *greeting)
}

fn values_cross() {
    runtime().block_on(async {
        let many: Vec<i64> = (0..500_000).collect();
        let total = many.iter().sum::<i64>();
        let report = run(sum(), Processes::new(1), store! { "data" => many }).await;
        assert_eq!(*report.get::<i64>("sum").unwrap(), total, "{report}");
        let bound = sum().bind("data", "raw").bind("start", "from");
        let store = store! { "raw" => [1i64, 2], "from" => 10 };
        assert_eq!(*run(bound, Processes::new(1), store).await.get::<i64>("sum").unwrap(), 13);
        let report = run(later(), Processes::new(1), store! { "n" => 4u32 }).await;
        assert_eq!(*report.get::<u32>("later").unwrap(), 8, "{report}");
    });
    // A pool outlives the runtime that it was used on.
    let next = || runtime().block_on(run(pid(), Processes::new(1), store! {}));
    let first = *next().get::<u32>("pid").unwrap();
    assert_eq!(*next().get::<u32>("pid").unwrap(), first);
    assert_ne!(first, id());
}

fn outcomes_cross() {
    runtime().block_on(async {
        let how = async |how: &str| {
            run(falls(), Processes::new(1), store! { "how" => how.to_owned() }).await
        };
        let report = how("says no").await;
        assert_eq!((report.status(), &*error(&report)), (Status::Failure, "no: no money"));
        let report = how("errs").await;
        assert_eq!(report.status(), Status::Exception);
        assert_eq!(error(&report), "network: the line is cut");
        assert_eq!(error(&how("panics").await), "panic: it tripped");
        assert_eq!(how("stops").await.status(), Status::Stopped);
        assert_eq!(how("skips").await.steps()[0].status.name(), "skipped");
        assert_eq!(how("nothing").await.status(), Status::Success);
        // By hand, since pipelines take no branches: the executor passes them on.
        let came = Arc::new(Mutex::new(None));
        let spy = Spy(Processes::new(1), Arc::clone(&came));
        drop(Pipeline::new("p").step(goes().executor(spy)).build().unwrap().run(store! {}).await);
        let came = came.lock().unwrap().take().unwrap();
        let Ok(Flow::Branch(branch)) = came else { panic!("{came:?}") };
        assert_eq!((&*branch.label, branch.value.get::<u32>().unwrap()), ("premium", 7));
    });
}

/// Looks at what an executor gives back.
#[derive(Debug)]
struct Spy(Processes, Arc<Mutex<Option<StepResult>>>);

#[async_trait::async_trait]
impl railbus::executor::Executor for Spy {
    async fn execute(&self, task: railbus::executor::Task) -> StepResult {
        let came = self.0.execute(task).await;
        *self.1.lock().unwrap() = Some(came);
        Ok(Flow::Skip)
    }
}

fn causes_cross() {
    runtime().block_on(async {
        let bus = railbus::Bus::new();
        let said = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&said);
        let told = railbus::StepDef::value("told", move |input| {
            *keep.lock().unwrap() = input.get::<Vec<String>>("who").map(|w| w.to_vec()).unwrap();
        });
        let pipeline = Pipeline::new("p").step(who().executor(Processes::new(1))).step(told);
        bus.on("order.placed").run(pipeline.build().unwrap()).await.unwrap();
        let event = Event::new("order.placed").id("e-1").correlation("c-1");
        bus.publish(event).await.unwrap();
        assert_eq!(*said.lock().unwrap(), ["e-1", "order.placed", "c-1", "c-1"]);
    });
}

/// Keeps what log lines say, with the spans around them.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(
        &self,
        of: &tracing::span::Attributes<'_>,
        id: &tracing::Id,
        all: layer::Context<'_, S>,
    ) {
        let mut text = Text::default();
        of.record(&mut text);
        all.span(id).unwrap().extensions_mut().insert(text);
    }

    fn on_event(&self, line: &tracing::Event<'_>, all: layer::Context<'_, S>) {
        let mut text = Text(format!("{} {} ", line.metadata().level(), line.metadata().target()));
        for around in all.event_scope(line).into_iter().flatten() {
            text.0 += &around.extensions().get::<Text>().unwrap().0;
        }
        line.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
}

fn log_lines_come_back() {
    let lines = Lines::default();
    let info = tracing_subscriber::filter::LevelFilter::INFO;
    let listening = tracing_subscriber::registry().with(lines.clone().with_filter(info));
    let report = tracing::subscriber::with_default(listening, || {
        runtime().block_on(async {
            let work = context::scope("import").correlation_id("c-7");
            work.run(run(logs(), Processes::new(1), store! {})).await
        })
    });
    assert_eq!(report.status(), Status::Success, "{report}");
    let lines = lines.0.lock().unwrap();
    let line = lines.iter().find(|line| line.contains("it is so")).unwrap();
    for wanted in ["INFO railbus::worker", "c-7", "step=\"logs\"", "\\\"answer\\\":42"] {
        assert!(line.contains(wanted), "{wanted}: {line}");
    }
    assert!(lines.iter().all(|line| !line.contains("nobody wants to know")), "{lines:?}");
}

fn log_lines_on_threads_are_the_runs() {
    let lines = Lines::default();
    let listening = tracing_subscriber::registry().with(lines.clone());
    // Not the program's subscriber but this thread's: the others have none.
    tracing::subscriber::with_default(listening, || {
        runtime().block_on(async {
            let around = tracing::info_span!("around", run = 9);
            let pools = [json!({"kind": "threads"}), json!({"kind": "blocking"})];
            let steps = pools.map(|pool| logs().named("on").executor(pool));
            for step in steps {
                let pipeline = Pipeline::new("p").step(step).build().unwrap();
                let run = tracing::Instrument::instrument(pipeline.run(store! {}), around.clone());
                assert_eq!(run.await.status(), Status::Success);
            }
        });
    });
    let lines = lines.0.lock().unwrap();
    let told = lines.iter().filter(|l| l.contains("it is so") && l.contains("run=9"));
    assert_eq!(told.count(), 2, "{lines:?}");
}

fn prints_and_reads_are_no_messages() {
    runtime().block_on(async {
        for _ in 0..2 {
            let report = run(prints(), Processes::new(1), store! {}).await;
            assert_eq!(*report.get::<usize>("prints").unwrap(), 0, "{report}");
        }
    });
}

fn pools_are_shared() {
    runtime().block_on(async {
        let of =
            async |pool: Processes| *run(pid(), pool, store! {}).await.get::<u32>("pid").unwrap();
        let first = of(Processes::new(1)).await;
        assert_eq!(of(Processes::new(1)).await, first);
        assert_ne!(of(Processes::new(1).memory_limit(1 << 40)).await, first);
        let map = json!({"kind": "processes", "max_workers": 1});
        let by_map = Pipeline::new("p").step(pid().executor(map)).build().unwrap();
        assert_eq!(*by_map.run(store! {}).await.get::<u32>("pid").unwrap(), first);
    });
}

fn workers_are_replaced() {
    runtime().block_on(async {
        let mut pids = Vec::new();
        for _ in 0..4 {
            let pool = Processes::new(1).max_tasks_per_child(2);
            pids.push(*run(pid(), pool, store! {}).await.get::<u32>("pid").unwrap());
        }
        assert!(pids[0] == pids[1] && pids[1] != pids[2] && pids[2] == pids[3], "{pids:?}");
    });
}

fn workers_run_at_once() {
    runtime().block_on(async {
        // Each waits for the other's file: one after another they would never end.
        let folder = tempfile::tempdir().unwrap();
        let meet = |own: &str, other: &str| {
            let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
            let pool = Processes::new(2).memory_limit(1 << 41);
            run(
                super::left_over::hangs().bind("own", "a").bind("other", "b"),
                pool,
                store! { "a" => file(own), "b" => file(other) },
            )
        };
        let reports = join_all([meet("1", "2"), meet("2", "1")]).await;
        let pids: BTreeSet<u32> =
            reports.iter().map(|report| *report.get::<u32>("hangs").unwrap()).collect();
        assert_eq!(pids.len(), 2);
    });
}

fn states_are_the_workers() {
    runtime().block_on(async {
        // The pipeline is asked for the state as well, and has another.
        let step = greets().executor(Processes::new(1));
        let pipeline = Pipeline::new("p").state(String::from("Hello")).step(step).build().unwrap();
        let report = pipeline.run(store! { "name" => "Ann".to_owned() }).await;
        assert_eq!(*report.get::<String>("greets").unwrap(), "Good day, Ann");
    });
}
