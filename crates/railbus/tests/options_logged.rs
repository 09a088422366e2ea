//! Secrets of options are in no log line either.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event};
use std::{
    fmt,
    sync::{Arc, Mutex},
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

/// Keeps all that any line or span says.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<String>>);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        *self.0.lock().unwrap() += &format!("{}={value:?}\n", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Said {
    fn on_new_span(&self, of: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        of.record(&mut self.clone());
    }

    fn on_event(&self, line: &tracing::Event<'_>, _: Context<'_, S>) {
        line.record(&mut self.clone());
    }
}

#[railbus::test]
async fn a_secret_is_told_by_no_log_line() {
    let said = Said::default();
    let subscriber = tracing_subscriber::registry().with(said.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db");
    for url in [
        "redis://me:hunter2@h".to_owned(),
        "redsi://me:hunter2@h".to_owned(),
        "memory:?password=hunter2".to_owned(),
        format!("sqlite:{}?token=hunter2", file.display()),
    ] {
        assert!(Bus::open(url).await.is_err());
    }
    for url in ["memory:".to_owned(), format!("sqlite:{}", file.display())] {
        let bus = Bus::open(url).await.unwrap();
        bus.on("a").run(|_: &Event| Err::<(), _>("no")).await.unwrap();
        bus.publish(Event::new("a").payload("hunter2")).await.unwrap();
        bus.idle().await.unwrap();
        bus.close().await.unwrap();
    }
    let said = said.0.lock().unwrap();
    assert!(said.contains("a handler failed"), "nothing was heard");
    assert!(!said.contains("hunter2"), "{said}");
}
