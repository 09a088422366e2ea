//! As much of Redis's protocol as it takes to give a command and to read what it says.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a server on this machine, by its socket.
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    pub(crate) fn open(socket: &Path, user: &str, password: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Self { stream: BufReader::new(stream) };
        connection.call(&["AUTH", user, password])??;
        Ok(connection)
    }

    /// Gives a command; returns what it came to as text, a list one item a line, or the server's
    /// error.
    pub(crate) fn call(&mut self, command: &[&str]) -> io::Result<Result<String, io::Error>> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
        }
        self.stream.get_mut().write_all(&bytes)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Result<String, io::Error>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let Some((kind, rest)) = line.split_at_checked(1) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match kind {
            "-" => Ok(Err(io::Error::other(rest.to_owned()))),
            "$" => self.bulk(rest).map(Ok),
            "*" => self.list(rest),
            _ => Ok(Ok(rest.to_owned())),
        }
    }

    fn bulk(&mut self, length: &str) -> io::Result<String> {
        // A length of -1 is nothing.
        let Ok(length) = length.parse::<usize>() else { return Ok(String::new()) };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&mut self, length: &str) -> io::Result<Result<String, io::Error>> {
        let mut items = Vec::new();
        for _ in 0..length.parse::<usize>().unwrap_or(0) {
            match self.answer()? {
                Ok(item) => items.push(item),
                error => return Ok(error),
            }
        }
        Ok(Ok(items.join("\n")))
    }
}
