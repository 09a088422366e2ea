//! The app file: what it means, and every mistake with its place and a hint.
#![cfg(all(feature = "app", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fit;
mod flows;
#[cfg(feature = "webhook")]
mod hooks;
mod layers;
mod meaning;
mod mistakes;
#[cfg(feature = "http")]
mod posts;
mod schedules;
mod steps;
mod world;

use railbus::app::{AppSpec, LoadError, Problems};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("railbus-app-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn script(&self, name: &str, mode: u32) {
        let path = self.write(name, "#!/bin/sh\n");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self, text: impl AsRef<[u8]>, env: &[(&str, &str)]) -> Result<AppSpec, LoadError> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        AppSpec::load(&self.write("app.toml", text), env)
    }

    fn problems(&self, text: &str, env: &[(&str, &str)]) -> Problems {
        match self.load(text, env) {
            Err(LoadError::Problems(problems)) => problems,
            other => panic!("no problems in {text}\n{other:?}"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A whole app in seven lines; what is added goes into its `[[on]]`, from line 8.
const APP: &str = r#"bus.url = "memory:"
[steps.a]
command = ["true"]
[pipelines.p]
flow = "a"
[[on]]
pipeline = "p"
"#;
