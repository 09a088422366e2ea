//! What these tests have in common: a client that speaks as little as it can.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Long enough for a machine with much to do: who waits for it in vain has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Connects, and sees to it that nothing waits for ever.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Says something in a line, and returns what comes back at once.
pub(crate) fn ask(stream: &mut (impl Read + Write), line: &str) -> io::Result<String> {
    say(stream, line)?;
    hear(stream)
}

pub(crate) fn say(stream: &mut impl Write, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes())
}

pub(crate) fn hear(stream: &mut impl Read) -> io::Result<String> {
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).trim_end().to_owned())
}
