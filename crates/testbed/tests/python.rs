//! Python has the packages it is asked for, and is spoken with.

use railbus_testbed::{INTEROP, Python, Result};
use std::time::Duration;

#[test]
fn the_packages_for_interoperation_are_there() -> Result<()> {
    let python = Python::with(INTEROP)?;
    let script = "import cloudevents, dataknobs_common.events, asyncpg, redis, sys\n\
                  print(sys.argv[1:])";
    assert_eq!(python.run(script, &["a b", "c"])?, "['a b', 'c']\n");
    let why = python.run("raise ValueError('so')", &[]).unwrap_err().to_string();
    assert!(why.contains("ValueError: so"), "{why}");
    Ok(())
}

#[test]
fn a_program_that_goes_on_is_spoken_with_by_lines() -> Result<()> {
    let python = Python::with(&[])?;
    let script = "import sys\nprint(sys.argv[1])\nfor line in sys.stdin: print(line.upper(), end='')\n\
                  sys.exit('over')";
    let patience = Duration::from_secs(20);
    let mut program = python.start(script, &["first"])?;
    assert_eq!(program.line(patience)?, "first");
    program.say("second")?;
    assert_eq!(program.line(patience)?, "SECOND");
    program.say("third")?;
    let why = program.end().unwrap_err().to_string();
    assert!(why.contains("over"), "{why}");
    let silent = python.start("import time; time.sleep(60)", &[])?;
    assert!(silent.line(Duration::from_millis(50)).is_err());
    Ok(())
}

#[test]
fn a_package_that_is_not_there_is_said() {
    let why = Python::with(&["./no-such-package.whl"]).unwrap_err().to_string();
    assert!(why.contains("no-such-package.whl"), "{why}");
}
