//! Steps, made of what an app file says of them.

use super::{
    spec::{EachSpec, PipelineSpec, StepSpec},
    work::{CommandSpec, ProcessesSpec, WorkSpec},
};
use crate::{
    error::Result,
    pipeline::{IntoStep, Pipeline, PipelineBuilder, StepDef, Steps, each},
    step::Step,
    steps::{command::CommandStep, worker::Workers},
};
use serde_json::Value;
use std::{path::Path, sync::Arc};

/// Makes the steps of one app; those of which the executors are equal share it.
#[derive(Default)]
struct Maker {
    workers: Vec<(ProcessesSpec, Workers)>,
}

/// Makes the steps of an app, to be named by flows.
pub(super) fn steps(specs: &[StepSpec], folder: &Path) -> Result<Steps> {
    let mut maker = Maker::default();
    let mut steps = Steps::new();
    for spec in specs {
        steps = steps.add(maker.step(spec, folder)?);
    }
    Ok(steps)
}

/// Makes a pipeline of an app, to be observed or built.
pub(super) fn pipeline(spec: &PipelineSpec, steps: &Steps) -> PipelineBuilder {
    let mut builder = Pipeline::new(spec.name.as_str()).steps(steps.clone()).flow(&*spec.flow);
    for name in &spec.input {
        builder = builder.input::<Value>(name.as_str());
    }
    if spec.lenient {
        builder = builder.lenient();
    }
    match spec.timeout {
        Some(limit) => builder.timeout(limit),
        None => builder,
    }
}

impl Maker {
    /// Makes a step whose commands start from `folder`.
    fn step(&mut self, spec: &StepSpec, folder: &Path) -> Result<StepDef> {
        let step: Arc<dyn Step> = match &spec.work {
            WorkSpec::Command(command) => Arc::new(self.command(spec, command, folder)?),
            #[cfg(feature = "http")]
            WorkSpec::Post(post) => {
                let post = post.request.clone().timeout(spec.timeout);
                Arc::new(match &spec.input {
                    Some(names) => post.input(names),
                    None => post,
                })
            }
        };
        let mut def = StepDef::new(spec.name.as_str(), step).output(spec.output.as_str());
        if let Some(retry) = &spec.retry {
            def = def.retry(retry.clone());
        }
        if let Some(EachSpec { items, at_once, evaluation }) = &spec.each {
            let all = each(items.as_str(), def).evaluate(*evaluation);
            def = match at_once {
                Some(at_once) => all.at_once(*at_once).into_step(),
                None => all.into_step(),
            };
        }
        let [success, error, exception] = spec.stops;
        if let Some(stop) = success {
            def = def.stop_on_success(stop);
        }
        if let Some(stop) = error {
            def = def.stop_on_error(stop);
        }
        if let Some(stop) = exception {
            def = def.stop_on_exception(stop);
        }
        Ok(def)
    }

    fn command(
        &mut self,
        spec: &StepSpec,
        command: &CommandSpec,
        folder: &Path,
    ) -> Result<CommandStep> {
        // As the file has it, so that messages are short; the step starts from the folder.
        let program = match command.program.strip_prefix(folder) {
            Ok(inner) => Path::new(".").join(inner),
            Err(_) => command.program.clone(),
        };
        let argv = [program.to_string_lossy().into_owned()].into_iter();
        let mut step = CommandStep::new(argv.chain(command.args.iter().cloned()))?
            .cwd(folder)
            .timeout(spec.timeout)
            .step_name(spec.name.as_str());
        if let Some(executor) = &command.executor {
            step = step.workers(self.workers(executor));
        }
        if let Some(names) = &spec.input {
            step = step.input(names);
        }
        Ok(step.mode(command.mode))
    }

    fn workers(&mut self, spec: &ProcessesSpec) -> &Workers {
        let known = self.workers.iter().position(|(of, _)| of == spec);
        let at = known.unwrap_or_else(|| {
            let workers = spec.max_workers.map_or_else(Workers::default, Workers::new);
            let workers = match spec.max_tasks_per_child {
                Some(tasks) => workers.max_tasks_per_child(tasks),
                None => workers,
            };
            self.workers.push((spec.clone(), workers));
            self.workers.len() - 1
        });
        &self.workers[at].1
    }
}
