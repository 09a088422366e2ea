//! Orders to a server from another process: a socket, and a program that gives them.

use railbus_testbed::{Error, Result, Server};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

/// What an order that was followed is answered with.
const DONE: &str = "done";

/// Where orders to a server are given.
pub(crate) struct Control {
    listener: UnixListener,
    socket: PathBuf,
    program: PathBuf,
}

impl Control {
    /// Opens the socket and writes the program, both in the server's folder.
    pub(crate) fn of(server: &Server) -> Result<Self> {
        let failed = |e: std::io::Error| Error::new(format!("take orders: {e}"));
        let socket = server.folder().join("control.sock");
        let program = server.folder().join("control");
        let own = env::current_exe().map_err(failed)?;
        let script = format!("#!/bin/sh\nexec {} order {} \"$1\"\n", quoted(&own), quoted(&socket));
        fs::write(&program, script).map_err(failed)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        Ok(Self { listener, socket, program })
    }

    /// Returns the program that is called with an order.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Follows orders until `work` is done.
    pub(crate) fn while_it_listens<T>(&self, server: &Server, work: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            scope.spawn(|| {
                for stream in self.listener.incoming().flatten() {
                    match hear(&stream).as_deref() {
                        Some("over") => return,
                        order => answer(stream, follow(server, order.unwrap_or_default())),
                    }
                }
            });
            let worked = work();
            // If nobody listens any more, nobody has to be told.
            let _ = give(&self.socket.to_string_lossy(), "over");
            worked
        })
    }
}

fn hear(stream: &UnixStream) -> Option<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}

fn answer(mut stream: UnixStream, done: Result<()>) {
    let text = done.map_or_else(|why| why.to_string(), |()| DONE.into());
    // Whoever has gone needs no answer.
    let _ = stream.write_all(text.as_bytes());
}

fn follow(server: &Server, order: &str) -> Result<()> {
    match order {
        "start" => server.start_again(),
        "stop" => server.stop(),
        "kill" => server.kill(),
        "pause" => server.pause(),
        "resume" => server.resume(),
        _ => Err(Error::new("the orders are start, stop, kill, pause and resume")),
    }
}

/// Gives an order, and waits until it was followed.
pub(crate) fn give(socket: &str, order: &str) -> Result<()> {
    let asked = UnixStream::connect(socket).and_then(|mut stream| {
        stream.write_all(format!("{order}\n").as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    match asked.map_err(|e| Error::new(format!("{order}: {e}")))?.as_str() {
        DONE => Ok(()),
        why => Err(Error::new(format!("{order}: {why}"))),
    }
}

/// Writes a path as a word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
