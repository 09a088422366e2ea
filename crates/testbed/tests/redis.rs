//! Redis starts, ends in every way, and comes again.
#![allow(clippy::unwrap_used)]

#[path = "common/plain.rs"]
mod plain;

use plain::{ask, connect, hear, say};
use railbus_testbed::{Redis, Result};
use std::{io::ErrorKind, time::Duration};

#[test]
fn a_server_starts_and_takes_its_folder_with_it() -> Result<()> {
    let redis = Redis::start()?;
    assert_eq!(redis.url("redis-streams"), format!("redis-streams://{}", redis.address()));
    assert_eq!(ask(&mut connect(redis.address()).unwrap(), "PING").unwrap(), "+PONG");
    let folder = redis.folder().to_owned();
    assert!(folder.is_dir());
    drop(redis);
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn a_server_that_is_killed_has_forgotten_everything_and_one_that_appends_nothing() -> Result<()> {
    for appends in [false, true] {
        let redis = Redis::options().appendonly(appends).start()?;
        redis.command(&["SET", "a", "1"])?;
        let address = redis.address();
        redis.kill()?;
        assert_eq!(redis.pid(), None);
        assert_eq!(connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(redis.kill().is_err() && redis.stop().is_err() && redis.pause().is_err());
        redis.start_again()?;
        assert_eq!(redis.address(), address);
        assert_eq!(redis.command(&["GET", "a"])?, if appends { "1" } else { "" });
        assert!(redis.start_again().is_err());
    }
    Ok(())
}

#[test]
fn a_server_that_is_stopped_says_so_and_comes_again() -> Result<()> {
    let redis = Redis::options().appendonly(true).start()?;
    redis.command(&["SET", "a", "1"])?;
    redis.stop()?;
    assert!(redis.log().contains("ready to exit"), "{}", redis.log());
    redis.start_again()?;
    assert_eq!(redis.command(&["GET", "a"])?, "1");
    Ok(())
}

#[test]
fn a_server_that_is_paused_keeps_its_connections_and_answers_later() -> Result<()> {
    let redis = Redis::start()?;
    let mut stream = connect(redis.address()).unwrap();
    redis.pause()?;
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    say(&mut stream, "PING").unwrap();
    assert_eq!(hear(&mut stream).unwrap_err().kind(), ErrorKind::WouldBlock);
    redis.resume()?;
    stream.set_read_timeout(Some(plain::PATIENCE)).unwrap();
    assert_eq!(hear(&mut stream).unwrap(), "+PONG");
    // One that is paused can be ended all the same.
    redis.pause()?;
    redis.stop()?;
    Ok(())
}

#[test]
fn nobody_is_let_in_without_the_password() -> Result<()> {
    let redis = Redis::options().password("p\"w\\ @").start()?;
    assert!(redis.url("redis").starts_with("redis://:p%22w%5C%20%40@127.0.0.1:"));
    let mut stream = connect(redis.address()).unwrap();
    assert!(ask(&mut stream, "PING").unwrap().starts_with("-NOAUTH"));
    assert_eq!(ask(&mut stream, "AUTH \"p\\\"w\\\\ @\"").unwrap(), "+OK");
    assert_eq!(ask(&mut stream, "PING").unwrap(), "+PONG");
    Ok(())
}

#[test]
fn a_user_is_let_in_and_nobody_else() -> Result<()> {
    let redis = Redis::options().user("shop", "secret").start()?;
    assert!(redis.url("redis").starts_with("redis://shop:secret@127.0.0.1:"));
    let mut stream = connect(redis.address()).unwrap();
    assert!(ask(&mut stream, "PING").unwrap().starts_with("-NOAUTH"));
    assert_eq!(ask(&mut stream, "AUTH shop secret").unwrap(), "+OK");
    assert_eq!(ask(&mut stream, "ACL WHOAMI").unwrap(), "$4\r\nshop");
    Ok(())
}

#[test]
fn settings_are_as_they_were_said() -> Result<()> {
    let options = Redis::options().databases(3).arg("--maxmemory-policy", "allkeys-lru");
    let redis = options.start()?;
    assert_eq!(redis.command(&["CONFIG", "GET", "databases"])?, "databases\n3");
    assert!(redis.command(&["CONFIG", "GET", "maxmemory-policy"])?.ends_with("allkeys-lru"));
    assert!(redis.version().starts_with(|c: char| c.is_ascii_digit()));
    Ok(())
}

#[test]
fn a_server_that_does_not_come_up_says_why() {
    let why = Redis::options().arg("--maxmemory-policy", "nonsense").start().unwrap_err();
    let why = why.to_string();
    assert!(why.contains("Redis ended at once") && why.contains("maxmemory-policy"), "{why}");
}
