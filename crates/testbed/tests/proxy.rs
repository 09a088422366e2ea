//! Each fault, on a real connection.

use railbus_testbed::{Fault, Proxy, Redis, Result};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"PING\r\n")?;
    hear(stream)
}

fn hear(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[test]
fn a_proxy_passes_on_and_counts() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::to(redis.address())?;
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    assert_eq!(ask(&mut stream).unwrap(), "+PONG\r\n");
    assert_eq!((proxy.connections(), proxy.bytes()), (1, 6 + 7));
    proxy.reset();
    assert_eq!(hear(&mut stream).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.connections(), 0);
    proxy.fault(Fault::Refuse);
    let refused = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.fault(Fault::None);
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    proxy.fault(Fault::BlackHole);
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(ask(&mut stream).unwrap_err().kind(), ErrorKind::WouldBlock);
    proxy.fault(Fault::None);
    stream.set_read_timeout(None).unwrap();
    assert_eq!(hear(&mut stream).unwrap(), "+PONG\r\n");
    Ok(())
}
