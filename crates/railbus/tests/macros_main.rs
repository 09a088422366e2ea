//! `#[railbus::main]`, as the `main` of this very program: it starts itself again, to end in each of
//! the ways a program may end.
#![allow(clippy::unwrap_used)]

use railbus::{Error, ErrorKind, Result};
use std::{
    env::{args, current_exe},
    process::{Command, ExitCode},
    thread,
};

#[railbus::main(worker_threads = 2)]
async fn main() -> Result<ExitCode> {
    match args().nth(1).as_deref() {
        Some("code") => Ok(ExitCode::from(3)),
        Some("advice") => Err(refused()),
        Some("within") => within::main(),
        Some("nothing") => Ok(nothing::main()),
        _ => {
            // What is spawned runs on threads of the runtime, not on the one that started.
            let main = thread::current().id();
            let spawned = tokio::spawn(async { thread::current().id() }).await;
            assert_ne!(spawned.unwrap(), main);
            thread::spawn(check).join().unwrap();
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Config, "open", "no backend named").hint("name one, such as memory:")
}

mod within {
    /// As an error of the program's own, with one of Railbus as its cause.
    #[derive(Debug)]
    struct Own(railbus::Error);

    impl std::fmt::Display for Own {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the shop can't open")
        }
    }

    impl std::error::Error for Own {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    pub(crate) fn main() -> railbus::Result<std::process::ExitCode> {
        #[railbus::main(flavor = "current_thread")]
        async fn main() -> Result<(), Own> {
            Err(Own(super::refused()))
        }
        // A runtime does not start inside of another.
        Ok(std::thread::spawn(main).join().unwrap())
    }
}

mod nothing {
    pub(crate) fn main() -> std::process::ExitCode {
        #[railbus::main]
        async fn main() {
            tokio::task::yield_now().await;
        }
        std::thread::spawn(main).join().unwrap()
    }
}

fn check() {
    let told = "error: open: no backend named\nhelp: name one, such as memory:\n";
    let own =
        "error: the shop can't open: open: no backend named\nhelp: name one, such as memory:\n";
    for (way, code, stderr) in
        [("code", 3, ""), ("advice", 1, told), ("within", 1, own), ("nothing", 0, "")]
    {
        let ended = Command::new(current_exe().unwrap()).arg(way).output().unwrap();
        let text = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*text), (Some(code), stderr), "{way}");
    }
}
