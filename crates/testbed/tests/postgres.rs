//! PostgreSQL starts, ends in every way, and comes again.

use railbus_testbed::{Postgres, Result};

#[test]
fn a_server_starts_and_takes_its_folder_with_it() -> Result<()> {
    let postgres = Postgres::start()?;
    let database = postgres.database()?;
    assert_eq!(database.psql("SELECT current_database()")?, database.name());
    let folder = postgres.folder().to_owned();
    assert!(folder.is_dir());
    drop(postgres);
    assert!(!folder.exists());
    Ok(())
}
