//! Redis starts, ends in every way, and comes again.

use railbus_testbed::{Redis, Result};

#[test]
fn a_server_starts_and_takes_its_folder_with_it() -> Result<()> {
    let redis = Redis::start()?;
    redis.command(&["SET", "a", "1"])?;
    assert_eq!(redis.command(&["GET", "a"])?, "1");
    let folder = redis.folder().to_owned();
    assert!(folder.is_dir());
    drop(redis);
    assert!(!folder.exists());
    Ok(())
}
