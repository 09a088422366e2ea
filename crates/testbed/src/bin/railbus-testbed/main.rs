//! The testbed as a program: has everything ready before tests run, and runs a command beside a
//! server that the command may stop, kill and pause.

mod control;

use control::Control;
use railbus_testbed::{Error, Nats, Postgres, Redis, Result, Server, install};
use std::{
    env,
    io::{self, Write},
    process::{Command, ExitCode},
};

const USAGE: &str = "\
Usage: railbus-testbed install
       railbus-testbed run SCHEME [--tls] [--client-certificates] [--password PASSWORD]
                       [--appendonly] [--setting NAME=VALUE].. -- COMMAND [ARG..]

  install   finds the servers that tests use, installs what is nowhere, and shows where they are
  run       starts a server for that scheme (nats, redis, redis-streams, postgres, postgres-queue)
            and runs the command, in whose arguments {url} and {address} stand for the server, and
            {control} for a program that is called with start, stop, kill, pause or resume:

            railbus-testbed run redis-streams -- railbus conformance {url} --control {control}
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["install"] => show_installed(),
        ["run", scheme, ref rest @ ..] => run(scheme, rest),
        ["order", socket, order] => control::give(socket, order).map(|()| ExitCode::SUCCESS),
        ["help" | "-h" | "--help"] => say(USAGE).map(|()| ExitCode::SUCCESS),
        _ => Err(usage("there is no such task")),
    };
    done.unwrap_or_else(|why| {
        // Nobody is left to tell if this fails.
        let _ = writeln!(io::stderr(), "railbus-testbed: {why}");
        ExitCode::from(2)
    })
}

fn usage(why: &str) -> Error {
    Error::new(format!("{why}\n\n{USAGE}"))
}

fn say(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).map_err(|e| Error::new(format!("stdout: {e}")))
}

fn show_installed() -> Result<ExitCode> {
    for program in install()? {
        let path = program.path.display();
        say(&format!("{:<12}{:<10}{path}\n", program.name, program.version))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said of the server on the command line.
#[derive(Default)]
struct Wanted<'a> {
    tls: bool,
    client_certificates: bool,
    password: Option<&'a str>,
    appendonly: bool,
    settings: Vec<(&'a str, &'a str)>,
}

impl<'a> Wanted<'a> {
    fn read(mut args: &[&'a str]) -> Result<Self> {
        let mut wanted = Self::default();
        loop {
            args = match *args {
                [] => return Ok(wanted),
                ["--tls", ref rest @ ..] => {
                    wanted.tls = true;
                    rest
                }
                ["--client-certificates", ref rest @ ..] => {
                    wanted.client_certificates = true;
                    rest
                }
                ["--appendonly", ref rest @ ..] => {
                    wanted.appendonly = true;
                    rest
                }
                ["--password", password, ref rest @ ..] => {
                    wanted.password = Some(password);
                    rest
                }
                ["--setting", setting, ref rest @ ..] => {
                    let said = setting.split_once('=');
                    wanted.settings.push(said.ok_or_else(|| usage("--setting wants NAME=VALUE"))?);
                    rest
                }
                [unknown, ..] => return Err(usage(&format!("there is no option {unknown}"))),
            };
        }
    }

    fn redis(&self) -> Result<Redis> {
        let mut options = Redis::options().tls(self.tls).appendonly(self.appendonly);
        if self.client_certificates {
            options = options.client_certificates();
        }
        if let Some(password) = self.password {
            options = options.password(password);
        }
        for (name, value) in &self.settings {
            options = options.arg(&format!("--{name}"), value);
        }
        options.start()
    }

    fn nats(&self) -> Result<Nats> {
        let mut options = Nats::options().tls(self.tls);
        if self.client_certificates {
            options = options.client_certificates();
        }
        if let Some(password) = self.password {
            options = options.user("app", password);
        }
        for (name, value) in &self.settings {
            options = options.setting(name, value);
        }
        options.start()
    }

    fn postgres(&self) -> Result<Postgres> {
        let mut options = Postgres::options().tls(self.tls);
        if self.client_certificates {
            options = options.client_certificates();
        }
        if let Some(password) = self.password {
            options = options.password(password);
        }
        for (name, value) in &self.settings {
            options = options.setting(name, value);
        }
        options.start()
    }
}

fn run(scheme: &str, args: &[&str]) -> Result<ExitCode> {
    let between = args.iter().position(|arg| *arg == "--");
    let (said, command) = between.map_or((args, &[][..]), |at| (&args[..at], &args[at + 1..]));
    let wanted = Wanted::read(said)?;
    match scheme {
        "redis" | "redis-streams" => {
            let redis = wanted.redis()?;
            beside(&redis, &redis.url(scheme), command)
        }
        "nats" => {
            let nats = wanted.nats()?;
            beside(&nats, &nats.url(), command)
        }
        "postgres" | "postgresql" | "postgres-queue" => {
            let postgres = wanted.postgres()?;
            beside(&postgres, &postgres.url(scheme), command)
        }
        _ => Err(usage(&format!("there is no server for {scheme}"))),
    }
}

/// Runs the command while the server is there.
fn beside(server: &Server, url: &str, command: &[&str]) -> Result<ExitCode> {
    let [program, args @ ..] = command else { return Err(usage("no command behind --")) };
    let control = Control::of(server)?;
    let filled = |arg: &&str| {
        let arg = arg.replace("{url}", url).replace("{address}", &server.address().to_string());
        arg.replace("{control}", &control.program().to_string_lossy())
    };
    let status = control.while_it_listens(server, || {
        let mut command = Command::new(program);
        command.args(args.iter().map(filled)).status()
    });
    let status = status.map_err(|e| Error::new(format!("{program}: {e}")))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
