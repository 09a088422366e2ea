//! PgBouncer stands before PostgreSQL, and hands connections on from one transaction to the next.

use railbus_testbed::{PgBouncer, Postgres, Result};

#[test]
fn queries_go_by_way_of_it() -> Result<()> {
    let postgres = Postgres::start()?;
    let bouncer = PgBouncer::before(&postgres)?;
    let url = bouncer.url("postgresql");
    assert_eq!(url, format!("postgresql://postgres@{}/postgres", bouncer.address()));
    assert_eq!(postgres.psql_at(&url, "SELECT 1")?, "1");
    let database = postgres.database()?;
    let by_way = bouncer.url_of(&database.url("postgresql"));
    assert_eq!(postgres.psql_at(&by_way, "SELECT current_database()")?, database.name());
    Ok(())
}

#[test]
fn a_connection_is_another_clients_after_the_transaction() -> Result<()> {
    let postgres = Postgres::start()?;
    let bouncer = PgBouncer::with(&postgres, &[("default_pool_size", "1")])?;
    let url = bouncer.url("postgresql");
    let first = postgres.psql_at(&url, "SELECT pg_backend_pid()")?;
    assert_eq!(postgres.psql_at(&url, "SELECT pg_backend_pid()")?, first);
    let (own, _) = url.rsplit_once('/').unwrap();
    let mode = postgres.psql_at(&format!("{own}/pgbouncer"), "SHOW CONFIG")?;
    assert!(mode.lines().any(|line| line.starts_with("pool_mode|transaction")), "{mode}");
    Ok(())
}

#[test]
fn whoever_has_a_password_in_the_server_has_it_here() -> Result<()> {
    let postgres = Postgres::options().password("p\"w").start()?;
    postgres.role("shop", "secret")?;
    let bouncer = PgBouncer::before(&postgres)?;
    assert_eq!(postgres.psql_at(&bouncer.url("postgresql"), "SELECT 1")?, "1");
    let shop = bouncer.url_of(&postgres.url_as("postgresql", "shop", "secret"));
    assert_eq!(postgres.psql_at(&shop, "SELECT current_user")?, "shop");
    let wrong = bouncer.url_of(&postgres.url_as("postgresql", "shop", "wrong"));
    assert!(postgres.psql_at(&wrong, "SELECT 1").is_err());
    Ok(())
}

#[test]
fn it_is_killed_and_comes_again_also_while_the_server_is_down() -> Result<()> {
    let postgres = Postgres::options().tls(true).start()?;
    let bouncer = PgBouncer::before(&postgres)?;
    let url = bouncer.url("postgresql");
    for is_killed in [true, false] {
        postgres.kill()?;
        if is_killed {
            bouncer.kill()?;
        } else {
            bouncer.stop()?;
        }
        bouncer.start_again()?;
        postgres.start_again()?;
        assert_eq!(postgres.psql_at(&url, "SELECT 1")?, "1");
    }
    bouncer.pause()?;
    bouncer.resume()?;
    assert_eq!(postgres.psql_at(&url, "SELECT 1")?, "1");
    Ok(())
}
