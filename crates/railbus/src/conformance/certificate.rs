//! The result of a run: what a backend has shown, case by case.

use super::{counts::Counts, fact::facts};
use crate::backend::Capability;
use serde_json::{Map, Value, json};
use std::{fmt, time::Duration};

/// What a run of the suite has shown of a backend; more may be added.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The backend's name.
    pub backend: String,
    /// What it claims.
    pub capability: Capability,
    /// The seed; a run with the same one does the same.
    pub seed: u64,
    /// How much of everything there was.
    pub counts: Counts,
    /// How long it took.
    pub elapsed: Duration,
    /// The cases, in the order they are told.
    pub cases: Vec<CaseReport>,
}

/// What one case came to; more may be added.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// The case's name.
    pub name: &'static str,
    /// What it came to.
    pub status: Status,
    /// Why, where there is more to say than the status.
    pub why: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What a case can come to; more may be added.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// The backend does what it claims.
    Passed,
    /// It does not.
    Failed,
    /// It claims nothing of the kind, and says so when asked for it.
    Refused,
    /// The case could not be run here.
    NotRun,
}

impl Status {
    /// Returns the status in lower case, as JSON shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::NotRun => "not_run",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Certificate {
    /// Tells whether some case passed and none failed.
    #[must_use]
    pub fn is_conformant(&self) -> bool {
        self.count(Status::Passed) > 0 && self.count(Status::Failed) == 0
    }

    /// Counts the cases that came to `status`.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.cases.iter().filter(|case| case.status == status).count()
    }

    /// Returns the report of the case with that name.
    #[must_use]
    pub fn case(&self, name: &str) -> Option<&CaseReport> {
        self.cases.iter().find(|case| case.name == name)
    }

    /// Returns the certificate as JSON: `{"backend", "seed", "counts": {..}, "seconds", "cases": [{"name",
    /// "status", "why", "seconds"}]}`, `why` null where the status says it all. The seed and the counts
    /// repeat the run.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let case = |c: &CaseReport| {
            let seconds = seconds(c.elapsed);
            json!({ "name": c.name, "status": c.status.name(), "why": c.why, "seconds": seconds })
        };
        json!({
            "backend": self.backend,
            "seed": self.seed,
            "counts": self.counts,
            "seconds": seconds(self.elapsed),
            "cases": self.cases.iter().map(case).collect::<Vec<_>>(),
        })
    }

    /// Returns what of the certificate stays the same from run to run, to be kept: `backend`, what it
    /// claims (`capability`, as [`facts`]), and `cases`, each with its name and status.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn keep(suite: railbus::conformance::Suite) -> railbus::Result<()> {
    /// println!("{:#}", suite.run().await?.to_record());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn to_record(&self) -> Value {
        let case = |c: &CaseReport| json!({ "name": c.name, "status": c.status.name() });
        let told = facts(&self.capability).into_iter();
        let capability: Map<_, _> = told.map(|fact| (fact.key.into(), fact.value)).collect();
        json!({
            "backend": self.backend,
            "capability": capability,
            "cases": self.cases.iter().map(case).collect::<Vec<_>>(),
        })
    }

    /// Returns the certificate as a Markdown section with a table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "## {}\n\nSeed {}: {} passed, {} failed, {} refused, {} not run.\n\n\
             | case | status | why |\n|---|---|---|\n",
            self.backend,
            self.seed,
            self.count(Status::Passed),
            self.count(Status::Failed),
            self.count(Status::Refused),
            self.count(Status::NotRun),
        );
        for case in &self.cases {
            let why = case.why.as_deref().unwrap_or_default();
            let why = why.replace(['\n', '\r'], " ").replace('|', "\\|");
            text.push_str(&format!("| {} | {} | {why} |\n", case.name, case.status));
        }
        text
    }
}

/// Returns a time in seconds, to the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(statuses: &[Status]) -> Certificate {
        let case = |status: &Status| CaseReport {
            name: "close",
            status: *status,
            why: (*status == Status::Failed).then(|| "a | b\nc".into()),
            elapsed: Duration::ZERO,
        };
        let cases = statuses.iter().map(case).collect();
        let capability = Capability::inline("sqlite");
        let (counts, elapsed) = (Counts::short(), Duration::from_micros(2_345_678));
        Certificate { backend: "sqlite".into(), capability, seed: 7, counts, elapsed, cases }
    }

    #[test]
    fn conformant_means_some_passed_and_none_failed() {
        use Status::{Failed, NotRun, Passed, Refused};
        assert!(certificate(&[Passed, Refused, NotRun]).is_conformant());
        assert!(!certificate(&[Refused, NotRun]).is_conformant());
        assert!(!certificate(&[Passed, Failed]).is_conformant());
        assert!(!certificate(&[]).is_conformant());
    }

    #[test]
    fn json_has_what_repeats_the_run_and_name_status_and_why_of_each_case() {
        let json = certificate(&[Status::Passed, Status::NotRun, Status::Failed]).to_json();
        assert_eq!(
            json["cases"],
            json!([
                { "name": "close", "status": "passed", "why": null, "seconds": 0.0 },
                { "name": "close", "status": "not_run", "why": null, "seconds": 0.0 },
                { "name": "close", "status": "failed", "why": "a | b\nc", "seconds": 0.0 },
            ])
        );
        let told = [&json["backend"], &json["seed"], &json["seconds"]];
        assert_eq!(told, [&json!("sqlite"), &json!(7), &json!(2.346)]);
        let counts = &json["counts"];
        assert_eq!((&counts["publishers"], &counts["faulted"]), (&json!(5), &json!(800)));
        assert_eq!(counts.as_object().map(Map::len), Some(13));
    }

    #[test]
    fn a_record_has_what_does_not_change_from_run_to_run() {
        let record = certificate(&[Status::Passed]).to_record();
        assert_eq!(record["backend"], "sqlite");
        assert_eq!(record["capability"]["groups"], false);
        assert_eq!(record["cases"], json!([{ "name": "close", "status": "passed" }]));
    }

    #[test]
    fn markdown_keeps_each_case_on_one_row() {
        let text = certificate(&[Status::Failed]).to_markdown();
        assert!(text.ends_with("| close | failed | a \\| b c |\n"), "{text}");
    }
}
