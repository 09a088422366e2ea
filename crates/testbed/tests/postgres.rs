//! PostgreSQL starts, ends in every way, and comes again.

use railbus_testbed::{Postgres, Result};
use std::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

#[test]
fn a_server_starts_and_takes_its_folder_with_it() -> Result<()> {
    let postgres = Postgres::start()?;
    let url = postgres.url("postgresql");
    assert_eq!(url, format!("postgresql://postgres@{}/postgres", postgres.address()));
    assert_eq!(postgres.psql_at(&url, "SELECT 1, 'a'")?, "1|a");
    let folder = postgres.folder().to_owned();
    assert!(folder.is_dir());
    drop(postgres);
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn databases_do_not_see_each_other() -> Result<()> {
    let postgres = Postgres::start()?;
    let (one, other) = (postgres.database()?, postgres.database()?);
    one.psql("CREATE TABLE a (b int)")?;
    other.psql("CREATE TABLE a (b int)")?;
    let found = postgres.psql_at(&one.url("postgresql"), "SELECT current_database()")?;
    assert_eq!(found, one.name());
    assert_ne!(one.name(), other.name());
    Ok(())
}

#[test]
fn what_is_committed_outlives_a_kill() -> Result<()> {
    let postgres = Postgres::start()?;
    postgres.psql("postgres", "CREATE TABLE a (b int); INSERT INTO a VALUES (7)")?;
    let address = postgres.address();
    for _ in 0..3 {
        postgres.kill()?;
        assert!(TcpStream::connect(address).is_err());
        postgres.start_again()?;
        assert_eq!(postgres.address(), address);
        assert_eq!(postgres.psql("postgres", "SELECT b FROM a")?, "7");
    }
    postgres.stop()?;
    postgres.start_again()?;
    assert_eq!(postgres.psql("postgres", "SELECT b FROM a")?, "7");
    Ok(())
}

#[test]
fn a_server_that_is_paused_answers_later_on_connections_that_are_open_too() -> Result<()> {
    let postgres = Postgres::start()?;
    let told = thread::scope(|scope| {
        let (sender, receiver) = channel();
        let url = postgres.url("postgresql");
        let asked = &postgres;
        // It works in its own process when the server is paused.
        let sql = "DO $$ BEGIN FOR i IN 1..4 LOOP PERFORM pg_sleep(0.2); END LOOP; END $$";
        scope.spawn(move || sender.send(asked.psql_at(&url, sql)));
        let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %'";
        while postgres.psql("postgres", count)? != "1" {}
        postgres.pause()?;
        let early = receiver.recv_timeout(Duration::from_secs(2));
        assert!(matches!(early, Err(RecvTimeoutError::Timeout)), "{early:?}");
        postgres.resume()?;
        receiver.recv().unwrap()
    });
    told.map(drop)
}

#[test]
fn nobody_is_let_in_without_the_password() -> Result<()> {
    let postgres = Postgres::options().password("p'w @").start()?;
    let url = postgres.url("postgresql");
    assert!(url.starts_with("postgresql://postgres:p%27w%20%40@"), "{url}");
    assert_eq!(postgres.psql_at(&url, "SHOW password_encryption")?, "scram-sha-256");
    let wrong = postgres.url_as("postgresql", "postgres", "wrong");
    let why = postgres.psql_at(&wrong, "SELECT 1").unwrap_err().to_string();
    assert!(why.contains("password authentication failed"), "{why}");
    Ok(())
}

#[test]
fn a_role_may_do_what_it_was_granted() -> Result<()> {
    let postgres = Postgres::options().password("pw").start()?;
    postgres.role("shop", "secret")?;
    let database = postgres.database()?;
    database.psql("CREATE TABLE a (b int); CREATE TABLE c (d int); GRANT SELECT ON a TO shop")?;
    let url = database.url_as("postgresql", "shop", "secret");
    assert_eq!(postgres.psql_at(&url, "SELECT count(*) FROM a")?, "0");
    let why = postgres.psql_at(&url, "SELECT count(*) FROM c").unwrap_err().to_string();
    assert!(why.contains("permission denied"), "{why}");
    Ok(())
}

#[test]
fn settings_are_as_they_were_said() -> Result<()> {
    let postgres = Postgres::options().setting("max_connections", "20").start()?;
    assert_eq!(postgres.psql("postgres", "SHOW max_connections")?, "20");
    assert_eq!(postgres.psql("postgres", "SHOW fsync")?, "off");
    assert_eq!(postgres.psql("postgres", "SHOW synchronous_commit")?, "on");
    // Else what a server that is killed had in memory would stay there for ever.
    assert_eq!(postgres.psql("postgres", "SHOW dynamic_shared_memory_type")?, "mmap");
    let synced = Postgres::options().fsync(true).start()?;
    assert_eq!(synced.psql("postgres", "SHOW fsync")?, "on");
    Ok(())
}

#[test]
fn a_server_that_does_not_come_up_says_why() {
    let why = Postgres::options().setting("max_connections", "many").start().unwrap_err();
    let why = why.to_string();
    assert!(why.contains("PostgreSQL ended at once") && why.contains("max_connections"), "{why}");
}

#[test]
fn a_server_whose_port_was_taken_meanwhile_says_so() -> Result<()> {
    let postgres = Postgres::start()?;
    postgres.stop()?;
    let taken = TcpListener::bind(postgres.address()).unwrap();
    thread::scope(|scope| {
        let again = scope.spawn(|| postgres.start_again());
        while !postgres.log().to_ascii_lowercase().contains("address already in use") {}
        drop(taken);
        again.join().unwrap()
    })
}

#[test]
fn a_standby_follows_and_takes_over_when_it_is_promoted() -> Result<()> {
    let primary = Postgres::options().password("secret").start()?;
    primary.psql("postgres", "CREATE TABLE a (b int)")?;
    let standby = primary.standby()?;
    primary.waits_for_standbys()?;
    primary.psql("postgres", "INSERT INTO a VALUES (7)")?;
    assert!(standby.psql("postgres", "INSERT INTO a VALUES (8)").is_err(), "it is read only");
    assert!(primary.promote().is_err(), "it is no standby");
    primary.kill()?;
    standby.promote()?;
    standby.psql("postgres", "INSERT INTO a VALUES (9)")?;
    let url = standby.url("postgresql");
    assert_eq!(standby.psql_at(&url, "SELECT sum(b) FROM a")?, "16");
    Ok(())
}

#[test]
fn a_small_disk_is_full_soon_and_a_database_beside_it_is_not() -> Result<()> {
    let small = Postgres::options().small_disk(24 << 20).start();
    let postgres = match small {
        Err(why) if why.to_string().contains("only root") => return Ok(()),
        started => started?,
    };
    let (full, other) = (postgres.small_database()?, postgres.database()?);
    let much =
        "CREATE TABLE much AS SELECT repeat(md5(n::text), 20) FROM generate_series(1, 50000) n";
    let error = full.psql(much).unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    other.psql(much)?;
    full.psql("CREATE TABLE little (n int)")?;
    let folder = postgres.folder().to_owned();
    drop(postgres);
    assert!(!folder.exists());
    Ok(())
}
