//! The suite catches a backend that only says that it does: three mutants of sqlite, each told by
//! the case that is there for it, and by their side a wrapper that changes nothing.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use async_trait::async_trait;
use railbus::{
    backend::{Backend, Capability, Keeper, Leased, Outgoing, Settle, Source, Subscribe, Verdict},
    backends,
    conformance::{CaseReport, Status, Suite, Target},
    error::Result,
    options::Options,
};
use std::{sync::Arc, time::Duration};

/// What is wrong with the backend.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    Sane,
    /// Acks at fetch, before any handler ran.
    EarlyAck,
    /// Says that it acked, and doesn't.
    ForgottenAck,
    /// Says that each delivery is the first.
    LostAttempt,
}

#[derive(Debug)]
struct Wrapped(Arc<dyn Backend>, Mutant);

struct WrappedSource {
    inner: Arc<dyn Source>,
    mutant: Mutant,
}

#[async_trait]
impl Backend for Wrapped {
    fn capability(&self) -> &Capability {
        self.0.capability()
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        self.0.publish(batch).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        let grouped = request.group.is_some();
        let inner = self.0.subscribe(request).await?;
        let mutant = if grouped { self.1 } else { Mutant::Sane };
        Ok(Arc::new(WrappedSource { inner, mutant }))
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.0.close(deadline).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.0.keeper()
    }
}

#[async_trait]
impl Source for WrappedSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let mut leased = self.inner.fetch(max).await?;
        if self.mutant == Mutant::EarlyAck {
            let ack = |l: &Leased| Settle::new(l.receipt.clone(), Verdict::Ack);
            let acks: Vec<_> = leased.iter().map(ack).collect();
            self.inner.settle(&acks).await.into_iter().collect::<Result<()>>()?;
        }
        if self.mutant == Mutant::LostAttempt {
            leased.iter_mut().for_each(|l| l.attempt = 1);
        }
        Ok(leased)
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        match self.mutant {
            Mutant::EarlyAck => vec![Ok(()); batch.len()],
            Mutant::ForgottenAck => {
                let rest: Vec<_> =
                    batch.iter().filter(|s| s.verdict != Verdict::Ack).cloned().collect();
                let mut results = self.inner.settle(&rest).await.into_iter();
                let result = |s: &Settle| match s.verdict {
                    Verdict::Ack => Ok(()),
                    _ => results.next().unwrap(),
                };
                batch.iter().map(result).collect()
            }
            _ => self.inner.settle(batch).await,
        }
    }

    fn stop(&self) {
        self.inner.stop();
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// Runs some cases on a mutant; none of them waits long for what never comes.
async fn run(mutant: Mutant, only: &[&str]) -> Vec<CaseReport> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("events.db").display());
    let target = Target::new(move || {
        let options = Options::parse(&url);
        Box::pin(async move {
            let inner = backends::open(options?).await?;
            Ok(Arc::new(Wrapped(inner, mutant)) as Arc<dyn Backend>)
        })
    });
    let suite = Suite::new(target).only(only.iter().copied());
    let suite = if mutant == Mutant::Sane { suite } else { suite.patience(PATIENCE) };
    suite.run().await.unwrap().cases
}

/// How long a mutant is given to deliver what it never will.
const PATIENCE: Duration = Duration::from_secs(3);

/// Checks that a case catches the mutant, and says what is wrong.
async fn caught(mutant: Mutant, case: &str, says: &str) {
    let reports = run(mutant, &[case]).await;
    let [report] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!(report.status, Status::Failed, "{mutant:?}: {report:?}");
    let why = report.why.as_deref().unwrap();
    assert!(why.contains(says), "{mutant:?}: {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_ack_is_caught_when_a_lease_runs_out_and_when_a_handler_fails() {
    caught(Mutant::EarlyAck, "lease expiry", "0 of 2 events came: waited 3s for an event").await;
    caught(Mutant::EarlyAck, "resend on error", "waited 3s for try").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_ack_is_caught_when_its_lease_runs_out() {
    caught(Mutant::ForgottenAck, "lease expiry", "after its ack had been confirmed").await;
    caught(Mutant::ForgottenAck, "publish-subscribe", "came again (attempt 2)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_attempt_is_caught_at_the_first_redelivery() {
    caught(Mutant::LostAttempt, "lease expiry", "as attempt 1, but it is attempt 2").await;
    caught(Mutant::LostAttempt, "dead letter", "delivery 2 was").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_that_changes_nothing_passes() {
    let reports = run(Mutant::Sane, &Suite::names()).await;
    for report in &reports {
        // Nobody says how to start a process here, or how to store bytes that are no event.
        let expected = match report.name {
            "kill -9" | "poison" => Status::NotRun,
            _ => Status::Passed,
        };
        assert_eq!(report.status, expected, "{report:?}");
    }
    assert_eq!(reports.len(), 15);
}
