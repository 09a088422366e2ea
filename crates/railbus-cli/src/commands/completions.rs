//! `railbus completions`: a script for the shell.

use super::OK;
use crate::{args::Cli, output};
use clap::CommandFactory;
use clap_complete::Shell;
use railbus::error::Result;

pub(super) fn completions(shell: Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "railbus", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(OK)
}
