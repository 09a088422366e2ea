//! `railbus migrate`: the tables of a bus on PostgreSQL, made or brought up to date, or as SQL.

use super::OK;
use crate::{args::Migrate, output};
use railbus::{
    backends::postgres_queue::{self, Grant},
    error::{Error, ErrorKind, Result},
};
use serde_json::json;

pub(super) async fn migrate(args: &Migrate, json: bool) -> Result<u8> {
    let options = super::store::options(&args.url)?;
    if options.backend() != "postgres-queue" {
        let why = format!("`{}` has no tables to make", options.backend());
        return Err(Error::new(ErrorKind::Unsupported, "migrate", why).hint(
            "give the URL of a postgres-queue; sqlite brings its file up to date by itself",
        ));
    }
    let mut grants = Vec::new();
    grants.extend(args.role.as_deref().map(|role| (Grant::All, role)));
    grants.extend(args.publisher.as_deref().map(|role| (Grant::Publish, role)));
    if args.print {
        postgres_queue::check(&options)?;
        let schema = options.text("schema").unwrap_or("railbus");
        let mut sql = postgres_queue::script(schema, args.from)?;
        for (grant, role) in grants {
            sql += &postgres_queue::grants(schema, grant, role);
        }
        output::lines(sql.lines().map(Into::into))?;
        return Ok(OK);
    }
    let (found, now) = postgres_queue::migrate(&options, &grants).await?;
    if json {
        output::line(&json!({ "found": found, "version": now }).to_string())?;
    } else if found == now {
        output::line(&format!("the tables have version {now} already"))?;
    } else {
        output::line(&format!("brought the tables from version {found} to {now}"))?;
    }
    Ok(OK)
}
