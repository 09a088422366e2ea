//! What is known outside the bus: which events were tried, confirmed and handled.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// A folder with a list for each: lines are appended whole, by any number of processes.
pub(crate) struct Ledger(PathBuf);

/// One of its lists.
pub(crate) struct List(File);

impl List {
    pub(crate) fn add(&self, line: &str) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Ledger {
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn list(&self, name: &str) -> List {
        List(OpenOptions::new().create(true).append(true).open(self.0.join(name)).unwrap())
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
        // A line that a kill cut short was not written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(Into::into).collect()
    }

    pub(crate) fn confirmed(&self) -> usize {
        self.lines("confirmed").len()
    }

    /// Holds what was handled against what was confirmed and tried.
    pub(crate) fn verify(&self, killed: &str) {
        let tried: HashSet<String> = self.lines("tried").into_iter().collect();
        let confirmed = self.lines("confirmed");
        let mut handled = HashMap::<String, u32>::new();
        for line in self.lines("handled") {
            let (id, inner) = line.split_once(' ').unwrap();
            assert_eq!(id, inner, "an event carries another's payload");
            *handled.entry(id.into()).or_default() += 1;
        }
        let lost: Vec<_> = confirmed.iter().filter(|id| !handled.contains_key(*id)).collect();
        let invented: Vec<_> = handled.keys().filter(|id| !tried.contains(*id)).collect();
        let again: u32 = handled.values().map(|n| n - 1).sum();
        let again_published = self.lines("again").len();
        eprintln!(
            "{killed}: {} tried, {} confirmed, {} handled, {again} times once more \
             ({again_published} publishes were tried again), {} lost, {} invented",
            tried.len(),
            confirmed.len(),
            handled.len(),
            lost.len(),
            invented.len()
        );
        assert!(confirmed.len() > 100, "there was no load");
        assert!(lost.is_empty(), "confirmed and not handled: {lost:?}");
        assert!(invented.is_empty(), "handled and never published: {invented:?}");
    }
}
