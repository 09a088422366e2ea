//! The command line, as it is typed.

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// One event bus and one pipeline API: in process, on an embedded store, on Redis or PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "railbus", version, max_term_width = 100, subcommand_required = true)]
pub(crate) struct Cli {
    /// Print one JSON document a result on stdout instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more: -v for what is decided, -vv for everything (RUST_LOG says it finer)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an app file
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Check an app file and print every mistake
    Check(Check),
    /// Publish one event, or one a line from stdin
    Publish(Publish),
    /// Print events as they come
    Subscribe(Subscribe),
    /// Look at dead letters, hand them back, delete them
    #[command(subcommand)]
    Dlq(Dlq),
    /// Look at groups, forget abandoned ones
    #[command(subcommand)]
    Groups(Groups),
    /// Look at runs of pipelines, cancel them, delete old ones
    #[command(subcommand)]
    Runs(Runs),
    /// Look at a bus and say what is wrong, or may soon be
    #[command(after_help = "Exit codes: 0 if no check failed, warnings allowed; 1 if one did")]
    Doctor(Doctor),
    /// Make the tables of a bus on PostgreSQL, or bring them up to date
    Migrate(Migrate),
    /// List the backends and what they guarantee
    Backends,
    /// Show that a backend does what it claims
    Conformance(Conformance),
    /// Be a consumer process that the conformance suite kills
    #[command(hide = true)]
    ConformanceMember,
    /// Print a completion script
    Completions {
        /// The shell to complete in
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Tells whether what it logs says nothing of how it goes.
    pub(crate) fn fails_on_purpose(&self) -> bool {
        matches!(self, Self::Conformance(_) | Self::ConformanceMember)
    }
}

const EXIT_CODES: &str = "Exit codes: 0 all well; 1 could not start or broke; 2 usage; \
                          3 finished with failed or dead-lettered events";

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The app file
    pub(crate) app: PathBuf,
    /// End when the inputs are exhausted and every event is settled
    #[arg(long)]
    pub(crate) until_idle: bool,
    /// Show a line for each step: how many runs it ended, tries, time
    #[arg(long)]
    pub(crate) progress: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The app file
    pub(crate) app: PathBuf,
    /// Draw the pipelines, for Mermaid (the default) or for Graphviz
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = "mermaid")]
    pub(crate) graph: Option<Graph>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Graph {
    /// A Mermaid flowchart
    Mermaid,
    /// The DOT language of Graphviz
    Dot,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The bus, such as sqlite:orders.db
    pub(crate) url: String,
    /// The topic
    pub(crate) topic: String,
    /// The event's type (default: the topic)
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// The payload, as JSON
    #[arg(long, value_name = "JSON", conflicts_with_all = ["file", "lines"])]
    pub(crate) data: Option<String>,
    /// A file with the payload, as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "lines")]
    pub(crate) file: Option<PathBuf>,
    /// `-`: one payload a line from stdin
    #[arg(value_parser = ["-"], value_name = "-")]
    pub(crate) lines: Option<String>,
    /// The event's source
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// The event's id (default: a new one)
    #[arg(long, conflicts_with = "lines")]
    pub(crate) id: Option<String>,
    /// What the event is about: groups may handle events of one key one after another
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Hold the event back, such as 30s
    #[arg(long, value_name = "DURATION")]
    pub(crate) delay: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// The bus, such as sqlite:orders.db
    pub(crate) url: String,
    /// The topics, as a pattern such as shop:*
    pub(crate) pattern: String,
    /// Share the events with a group and acknowledge each once it is printed
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// End after so many events
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    /// List dead letters
    Ls {
        /// The bus, such as sqlite:orders.db
        url: String,
        #[command(flatten)]
        filter: Letters,
    },
    /// Show one dead letter with its event and history
    Show {
        /// The bus, such as sqlite:orders.db
        url: String,
        /// The letter's id, as ls prints it
        id: String,
    },
    /// Hand dead letters back to the subscription they failed in
    Redrive {
        /// The bus, such as sqlite:orders.db
        url: String,
        #[command(flatten)]
        filter: Letters,
        /// Say what would be handed back, and leave it
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete dead letters for ever
    #[command(group = ArgGroup::new("which").args(FILTERS).arg("all").required(true).multiple(true))]
    Purge {
        /// The bus, such as sqlite:orders.db
        url: String,
        #[command(flatten)]
        filter: Letters,
        /// Say what would be deleted, and leave it
        #[arg(long)]
        dry_run: bool,
        /// Delete all of them, where no filter is given
        #[arg(long, conflicts_with_all = FILTERS)]
        all: bool,
    },
}

/// What narrows the choice of dead letters; `limit` alone does not.
const FILTERS: [&str; 7] =
    ["id", "event", "group", "subscription", "event_type", "topic", "reason"];

/// Which dead letters: those that match everything given.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Letters {
    /// The letter with this id, as ls prints it
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Letters of the event with this id
    #[arg(long, value_name = "ID")]
    pub(crate) event: Option<String>,
    /// Letters of this group
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Letters of this subscription
    #[arg(long, value_name = "NAME")]
    pub(crate) subscription: Option<String>,
    /// Letters of events of this type, as a pattern
    #[arg(long = "type", value_name = "PATTERN")]
    pub(crate) event_type: Option<String>,
    /// Letters of events on this topic, as a pattern
    #[arg(long, value_name = "PATTERN")]
    pub(crate) topic: Option<String>,
    /// Letters whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// At most so many, oldest first
    #[arg(long)]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Groups {
    /// List groups: what they want, how far behind they are
    Ls {
        /// The bus, such as sqlite:orders.db
        url: String,
    },
    /// Forget a group: its interest, its place, its unsettled events and dead letters; if it comes again,
    /// it gets what is still kept once more
    Prune {
        /// The bus, such as sqlite:orders.db
        url: String,
        /// The group's name
        group: String,
        /// Say what would be forgotten, and leave it
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Runs {
    /// List runs, newest first
    Ls {
        /// The bus, such as sqlite:orders.db
        url: String,
        #[command(flatten)]
        filter: WhichRuns,
        /// The page behind the run of this id
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// At most so many
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Show one run: what it began with, each step, and where it would go on
    Show {
        /// The bus, such as sqlite:orders.db
        url: String,
        /// The run's id
        id: String,
    },
    /// Ask for the end of a run; one that nobody runs ends at once
    Cancel {
        /// The bus, such as sqlite:orders.db
        url: String,
        /// The run's id
        id: String,
    },
    /// Go on with a run that was left, to its end
    Resume {
        /// The app file that has the run's pipeline
        app: PathBuf,
        /// The run's id
        id: String,
    },
    /// Delete runs in which nothing has happened for a while: those that have ended, unless --status
    /// says otherwise
    Prune {
        /// The bus, such as sqlite:orders.db
        url: String,
        /// How long ago something last happened in them, such as 30d
        #[arg(long, value_name = "DURATION")]
        older_than: String,
        #[command(flatten)]
        filter: WhichRuns,
        /// Say what would be deleted, and leave it
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which runs: those that match everything given.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct WhichRuns {
    /// Runs of this pipeline, as a pattern
    #[arg(long, value_name = "PATTERN")]
    pub(crate) pipeline: Option<String>,
    /// Runs that stand so: running, left, success, failure, exception, stopped, cancelled; several
    /// with commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub(crate) status: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The bus, such as sqlite:orders.db (default: RAILBUS_URL and RAILBUS_BUS__KEY)
    pub(crate) url: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// The bus, such as postgres-queue://OWNER@HOST/DATABASE
    pub(crate) url: String,
    /// Print the SQL instead, for whoever keeps the database; nothing is connected to
    #[arg(long)]
    pub(crate) print: bool,
    /// With --print: the version that the tables have, 0 for none
    #[arg(long, value_name = "VERSION", default_value_t = 0, requires = "print")]
    pub(crate) from: i32,
    /// Grant this role what a program needs that publishes and consumes
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<String>,
    /// Grant this role what a program needs that publishes only
    #[arg(long, value_name = "ROLE")]
    pub(crate) publisher: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Conformance {
    /// The bus, such as sqlite:conformance.db
    #[arg(required_unless_present = "list")]
    pub(crate) url: Option<String>,
    /// What controls the server: a program, or a command with arguments of its own; called with start,
    /// stop, kill, pause or resume as the last one, it exits with 0 when that is done
    #[arg(long, value_name = "CMD")]
    pub(crate) control: Option<PathBuf>,
    /// Run this case only; may be given again
    #[arg(long, value_name = "CASE")]
    pub(crate) case: Vec<String>,
    /// Print the cases and what each needs, and run none
    #[arg(long, conflicts_with_all = ["url", "control", "case", "patience", "stress", "seed"])]
    pub(crate) list: bool,
    /// Wait so long for what must happen, such as 2m, before a case fails (default 30s)
    #[arg(long, value_name = "DURATION")]
    pub(crate) patience: Option<String>,
    /// Do much more of everything, for minutes
    #[arg(long)]
    pub(crate) stress: bool,
    /// Repeat a run: the number that it printed
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}
