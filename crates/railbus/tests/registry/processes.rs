//! A registry in two processes.

use super::*;
use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Reads what is in a file now, as the value of whatever id.
async fn read(folder: String) -> io::Result<String> {
    fs::read_to_string(Path::new(&folder).join("value"))
}

fn registry(folder: &str) -> Registering<String> {
    let folder = folder.to_owned();
    CachedRegistry::new(async move |_: String| read(folder).await)
}

/// The other process: keeps a value, and says on the bus what it serves whenever it is asked.
#[tokio::test]
async fn the_other_process() {
    let (Ok(url), Ok(folder)) = (env::var("RAILBUS_TEST_URL"), env::var("RAILBUS_TEST_FOLDER"))
    else {
        return;
    };
    let bus = Bus::open(&url).await.unwrap();
    let bots = registry(&folder).topic("registry:bots").key("bot_id").open(&bus).await.unwrap();
    let bus = bus.state(bots);
    let serve = async |bots: State<CachedRegistry<String>>, bus: Bus| {
        let (value, kept) = (bots.get("b1").await?, bots.len());
        bus.publish(("served", json!([*value, kept]))).await.map(drop)
    };
    bus.on("serve").run(serve).await.unwrap();
    bus.publish(("ready", 0)).await.unwrap();
    std::future::pending::<()>().await;
}

struct Other(Child);

impl Other {
    fn start(url: &str, folder: &Path) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "processes::the_other_process", "--nocapture"])
            .env("RAILBUS_TEST_URL", url)
            .env("RAILBUS_TEST_FOLDER", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[railbus::test]
async fn a_change_that_one_process_tells_is_seen_in_the_other() {
    for place in places::shared() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(folder.path().join("value"), text).unwrap();
        write("first");
        let bus = Bus::open(&place.url).await.unwrap();
        let (told, mut served) = tokio::sync::mpsc::unbounded_channel();
        let ready = told.clone();
        bus.on("ready").run(move |_: &Event| ready.send(json!(0))).await.unwrap();
        let tell = move |event: &Event| told.send(event.payload::<Value>()?).map_err(|_| no());
        bus.on("served").run(tell).await.unwrap();
        let here = registry(folder.path().to_str().unwrap());
        let here = here.topic("registry:bots").key("bot_id").open(&bus).await.unwrap();
        let _other = Other::start(&place.url, folder.path());
        assert_eq!(served.recv().await.unwrap(), json!(0));

        let mut ask = async || {
            bus.publish(("serve", 0)).await.unwrap();
            served.recv().await.unwrap()
        };
        assert_eq!(ask().await, json!(["first", 1]), "{}", place.url);
        write("second");
        assert_eq!(ask().await, json!(["first", 1]), "it is kept");
        on_config_change(&bus, "b1", &json!({ "model": "x" })).await.unwrap();
        assert_eq!(ask().await, json!(["second", 1]), "{}", place.url);
        // And by the registry's own.
        write("third");
        here.publish_updated("b1").await.unwrap();
        assert_eq!(ask().await, json!(["third", 1]));
        write("fourth");
        here.publish_deleted("another").await.unwrap();
        assert_eq!(ask().await, json!(["third", 1]), "another is not this one");
        bus.close().await.unwrap();
    }
}

fn no() -> railbus::Error {
    railbus::Error::new(ErrorKind::Internal, "test", "nobody listens")
}
