//! What is known of each server's program.

/// A server's program, and where it may be.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    /// What must be in the same folder.
    pub(crate) beside: &'static [&'static str],
    /// The least version: older ones are passed over.
    pub(crate) version_min: &'static [u32],
    /// The environment variable that names the program, or its folder.
    pub(crate) variable: &'static str,
    /// Folders beside those of `PATH`; `*` is a version, of which the newest is taken.
    pub(crate) folders: &'static [&'static str],
    /// Debian's packages; `*` is a version, of which the newest is taken.
    pub(crate) packages: &'static [&'static str],
    /// What of them no server needs.
    pub(crate) unused: &'static [&'static str],
    /// Docker's image of it; empty if there is none.
    pub(crate) image: &'static str,
    /// How to install it by hand.
    pub(crate) advice: &'static str,
}

pub(crate) const REDIS: Kind = Kind {
    name: "Redis",
    program: "redis-server",
    beside: &[],
    version_min: &[7, 0],
    variable: "RAILBUS_TESTBED_REDIS",
    folders: &["/usr/local/bin", "/opt/homebrew/bin"],
    packages: &["redis-server", "redis-tools"],
    unused: &["usr/share"],
    image: "redis:7.2",
    advice: "`apt-get install redis-server` or `brew install redis`",
};

pub(crate) const POSTGRES: Kind = Kind {
    name: "PostgreSQL",
    program: "postgres",
    beside: &["initdb", "psql"],
    version_min: &[13],
    variable: "RAILBUS_TESTBED_POSTGRES",
    folders: &[
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/usr/local/pgsql/bin",
        "/opt/homebrew/opt/postgresql@*/bin",
        "/usr/local/opt/postgresql@*/bin",
    ],
    packages: &["postgresql-*", "postgresql-client-*"],
    unused: &["usr/share/doc", "usr/share/locale", "usr/lib/postgresql/*/lib/bitcode"],
    image: "postgres:16",
    advice: "`apt-get install postgresql` or `brew install postgresql`",
};

pub(crate) const PGBOUNCER: Kind = Kind {
    name: "PgBouncer",
    program: "pgbouncer",
    beside: &[],
    version_min: &[1, 12],
    variable: "RAILBUS_TESTBED_PGBOUNCER",
    folders: &["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"],
    packages: &["pgbouncer"],
    unused: &["usr/share"],
    image: "",
    advice: "`apt-get install pgbouncer` or `brew install pgbouncer`",
};

pub(crate) const NATS: Kind = Kind {
    name: "NATS",
    program: "nats-server",
    beside: &[],
    version_min: &[2, 9],
    variable: "RAILBUS_TESTBED_NATS",
    folders: &["/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin"],
    packages: &["nats-server"],
    unused: &["usr/share"],
    image: "",
    advice: "`apt-get install nats-server` or `brew install nats-server`",
};

pub(crate) const PYTHON: Kind = Kind {
    name: "Python",
    program: "python3",
    beside: &[],
    version_min: &[3, 10],
    variable: "RAILBUS_TESTBED_PYTHON",
    folders: &["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"],
    packages: &[
        "python3-minimal",
        "python3.*",
        "python3.*-minimal",
        "libpython3.*-minimal",
        "libpython3.*-stdlib",
    ],
    unused: &["usr/share"],
    image: "",
    advice: "`apt-get install python3` or `brew install python`",
};

/// pip, where Python comes without: no program, but a file that Python runs.
pub(crate) const PIP: Kind = Kind {
    name: "pip",
    program: "pip",
    beside: &[],
    version_min: &[],
    variable: "",
    folders: &["/usr/share/python-wheels"],
    packages: &["python3-pip-whl"],
    unused: &["usr/share/doc"],
    image: "",
    advice: "`apt-get install python3-venv`",
};
