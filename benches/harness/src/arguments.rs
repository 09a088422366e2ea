//! What a benchmark is started with.

use crate::{Result, Sheet};
use std::{process::ExitCode, time::Duration};

/// How often and how long everybody takes turns.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many turns each contender takes.
    pub rounds: usize,
    /// About how long a turn lasts.
    pub turn: Duration,
}

/// What a benchmark is started with.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub(crate) settings: Settings,
    pub(crate) json: bool,
    /// What the names of contenders hold that take turns, for a profiler to look at.
    pub(crate) only: Option<String>,
    rows: Vec<String>,
}

const USAGE: &str = "\
usage: [ROW..] [--json] [--rounds N] [--turn MILLISECONDS] [--only NAME]
ROW is the beginning of a row's name, such as I or S1; without any, all rows are measured;
NAME is a part of the names of contenders, and nobody else takes turns";

impl Arguments {
    fn read(args: impl Iterator<Item = String>, rounds: usize) -> Result<Self> {
        let settings = Settings { rounds, turn: Duration::from_millis(25) };
        let mut read = Self { settings, json: false, only: None, rows: Vec::new() };
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            if arg == "--only" {
                read.only = Some(args.next().ok_or(USAGE)?);
                continue;
            }
            let mut number = || args.next().and_then(|n| n.parse::<u32>().ok()).ok_or(USAGE);
            match &*arg {
                "--json" => read.json = true,
                "--rounds" => read.settings.rounds = number()?.max(5) as usize,
                "--turn" => read.settings.turn = Duration::from_millis(number()?.max(1).into()),
                flag if flag.starts_with('-') => return Err(USAGE.into()),
                row => read.rows.push(row.to_uppercase()),
            }
        }
        Ok(read)
    }

    /// Tells whether the row of that name is to be measured.
    fn wants(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|row| name.to_uppercase().starts_with(row))
    }
}

/// The rows of a program: a name, and what measures it.
pub type Rows = [(&'static str, fn(&mut Sheet) -> Result<()>)];

/// Measures the rows that the arguments name, in so many rounds if they don't say.
pub fn main(rows: &Rows, rounds: usize) -> ExitCode {
    let measure = || {
        let arguments = Arguments::read(std::env::args().skip(1), rounds)?;
        let mut sheet = Sheet::new(&arguments);
        let wanted = rows.iter().filter(|(name, _)| arguments.wants(name));
        for (name, row) in wanted {
            row(&mut sheet).map_err(|e| format!("{name}: {e}"))?;
        }
        Ok::<_, crate::Failed>(())
    };
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
