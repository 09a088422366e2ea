//! Steps, made of what an app file says of them.

use super::{
    spec::StepSpec,
    work::{CommandSpec, WorkSpec},
};
use crate::{error::Result, pipeline::StepDef, step::Step, steps::command::CommandStep};
use std::{path::Path, sync::Arc};

/// Makes a step whose commands start from `folder`.
pub(super) fn step(spec: &StepSpec, folder: &Path) -> Result<StepDef> {
    let step: Arc<dyn Step> = match &spec.work {
        WorkSpec::Command(command) => Arc::new(self::command(spec, command, folder)?),
        #[cfg(feature = "http")]
        WorkSpec::Post(post) => {
            let post = post.request.clone().timeout(spec.timeout);
            Arc::new(match &spec.input {
                Some(names) => post.input(names),
                None => post,
            })
        }
    };
    let def = StepDef::new(spec.name.as_str(), step).output(spec.output.as_str());
    Ok(match &spec.retry {
        Some(retry) => def.retry(retry.clone()),
        None => def,
    })
}

fn command(spec: &StepSpec, command: &CommandSpec, folder: &Path) -> Result<CommandStep> {
    // As the file has it, so that messages are short; the step starts from the folder.
    let program = match command.program.strip_prefix(folder) {
        Ok(inner) => Path::new(".").join(inner),
        Err(_) => command.program.clone(),
    };
    let argv = [program.to_string_lossy().into_owned()].into_iter();
    let step = CommandStep::new(argv.chain(command.args.iter().cloned()))?;
    let step = step.cwd(folder).timeout(spec.timeout);
    Ok(match &spec.input {
        Some(names) => step.input(names),
        None => step,
    })
}
