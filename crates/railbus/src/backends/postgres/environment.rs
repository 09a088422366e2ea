//! What the environment says of a database: `DATABASE_URL`, and what psql reads.

use crate::{
    error::{Error, ErrorKind, Result},
    options::Options,
};

const OPERATION: &str = "open postgres";

/// The keys that say where the database is; `DATABASE_URL` counts where none of them is set.
pub(super) const PLACE: [&str; 5] = ["host", "port", "user", "password", "database"];

/// What is taken over from `DATABASE_URL`, which other programs read, too.
const SHARED: [&str; 12] = [
    "host",
    "port",
    "user",
    "password",
    "database",
    "tls",
    "sslmode",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "connect_timeout",
    "application_name",
];

/// What psql reads beside where the database is, and the key that says the same here.
const OF_PSQL: [(&str, &str); 5] = [
    ("tls_ca", "PGSSLROOTCERT"),
    ("tls_cert", "PGSSLCERT"),
    ("tls_key", "PGSSLKEY"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("application_name", "PGAPPNAME"),
];

/// Adds what `DATABASE_URL` says, where nothing else says where the database is.
pub(super) fn with_database_url(
    options: &Options,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Options> {
    let mut options = options.clone();
    let is_placed = PLACE.iter().any(|key| options.text(key).is_some());
    let Some(url) = environment("DATABASE_URL").filter(|_| !is_placed) else { return Ok(options) };
    let told = Options::parse(&url).map_err(|e| e.with("in", "DATABASE_URL"))?;
    if !told.backend().starts_with("postgres") {
        let why = "DATABASE_URL is not the URL of a PostgreSQL database";
        return Err(Error::new(ErrorKind::Config, OPERATION, why)
            .hint("write postgres://USER@HOST/DATABASE, or set host"));
    }
    for key in SHARED {
        if let (Some(value), None) = (told.text(key), options.text(key)) {
            options.set(key, value);
        }
    }
    Ok(options)
}

/// Adds what psql is told, where nothing else says it.
pub(super) fn with_psql(
    mut options: Options,
    environment: &impl Fn(&str) -> Option<String>,
) -> Options {
    for (key, variable) in OF_PSQL {
        // No limit, and the authorities of the system: what there is without them.
        let is_default = |value: &str| match key {
            "connect_timeout" => value == "0",
            "tls_ca" => value == "system",
            _ => false,
        };
        let told = environment(variable).filter(|value| !is_default(value));
        let (Some(value), None) = (told, options.text(key)) else { continue };
        options.set(key, value);
        // To psql an authority alone is no reason to ask it.
        let is_said = ["tls", "sslmode"].iter().any(|key| options.text(key).is_some());
        if key == "tls_ca" && !is_said && environment("PGSSLMODE").is_none() {
            options.set("sslmode", "prefer");
        }
    }
    options
}
