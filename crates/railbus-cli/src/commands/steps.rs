//! `railbus run --progress`: a line for each step.

use crate::output;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use railbus::{
    app::AppSpec,
    bus::Bus,
    error::{Error, ErrorKind, Result},
    event::{Event, Type},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What became of the steps of an app so far, shown as it comes.
pub(super) struct Steps {
    lines: Arc<Lines>,
    // Bars leave the terminal with it.
    _bars: Option<MultiProgress>,
}

type Lines = Vec<(String, Mutex<Line>)>;

/// What became of one step.
#[derive(Default)]
struct Line {
    begun: u64,
    ended: u64,
    failed: u64,
    skipped: u64,
    retries: u64,
    seconds: f64,
    bar: Option<ProgressBar>,
}

impl Steps {
    /// Listens to the steps of an app that is observed.
    pub(super) async fn watch(bus: &Bus, spec: &AppSpec) -> Result<Self> {
        let bars = output::is_live().then(MultiProgress::new);
        let name = |pipeline: &str, step: &String| format!("{pipeline}.{step}");
        let names = spec.pipelines.iter().flat_map(|pipeline| {
            pipeline.steps.iter().map(|step| name(&pipeline.name, step)).collect::<Vec<_>>()
        });
        let names: Vec<String> = names.collect();
        let width = names.iter().map(String::len).max().unwrap_or_default();
        let style = ProgressStyle::with_template(&format!("{{prefix:{width}}} {{bar:20}} {{msg}}"));
        let style = style.map_err(|e| {
            Error::new(ErrorKind::Internal, "progress", "the line of a step can't be drawn")
                .because(e)
        })?;
        let line = |name: String| {
            let bar = bars.as_ref().map(|bars| {
                let bar = bars.add(ProgressBar::new(0)).with_style(style.clone());
                bar.with_prefix(output::plain(&name))
            });
            (name, Mutex::new(Line { bar, ..Line::default() }))
        };
        let lines: Arc<Lines> = Arc::new(names.into_iter().map(line).collect());
        let places = lines.iter().enumerate().map(|(i, (name, _))| (name.clone(), i));
        let places: HashMap<String, usize> = places.collect();
        let heard = Arc::clone(&lines);
        let hear = move |event: &Event| {
            if let Some((_, line)) = places.get(event.source()).and_then(|at| heard.get(*at)) {
                line.lock().unwrap_or_else(PoisonError::into_inner).hear(event);
            }
        };
        bus.on("step_*").run(hear).await?;
        Ok(Self { lines, _bars: bars })
    }

    /// Shows what became of the steps, for good.
    pub(super) fn end(self) {
        for (name, line) in &*self.lines {
            let line = line.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(bar) = &line.bar {
                bar.finish_and_clear();
            }
            output::note(&format!("{}: {}", output::plain(name), line.text()));
        }
    }
}

impl Line {
    fn hear(&mut self, event: &Event) {
        match event.event_type() {
            Type::STEP_START => self.begun += 1,
            Type::STEP_RETRY => self.retries += 1,
            Type::STEP_SKIPPED => self.skipped += 1,
            other @ (Type::STEP_END | Type::STEP_ERROR) => {
                self.ended += 1;
                self.failed += u64::from(other == Type::STEP_ERROR);
                self.seconds += event.get::<f64>("duration").unwrap_or_default();
            }
            _ => return,
        }
        if let Some(bar) = &self.bar {
            bar.set_length(self.begun.max(1));
            bar.set_position(self.ended);
            bar.set_message(self.text());
        }
    }

    fn text(&self) -> String {
        let Self { begun, ended, failed, skipped, retries, seconds, .. } = self;
        let mean = if *ended == 0 { 0.0 } else { seconds / *ended as f64 };
        let mut text =
            format!("{} of {begun} ok, {retries} tried again, {mean:.3} s each", ended - failed);
        for (count, what) in [(failed, "failed"), (skipped, "skipped")] {
            if *count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }
}
