//! Each fault, on a real connection.
#![allow(clippy::unwrap_used)]

#[path = "common/plain.rs"]
mod plain;

use plain::{PATIENCE, ask, connect, hear, say};
use railbus_testbed::{Fault, Proxy, Redis, Result};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// How long it takes until nothing is taken for nothing.
const SILENCE: Duration = Duration::from_millis(200);

fn hears_nothing(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    assert_eq!(hear(stream).unwrap_err().kind(), ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

fn is_reset(stream: &mut TcpStream) {
    assert_eq!(hear(stream).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// A server that answers nothing, with both ends of a connection through a proxy to it.
fn pair() -> Result<(Proxy, TcpStream, TcpStream)> {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(server.local_addr().unwrap())?;
    let client = connect(proxy.address()).unwrap();
    let (server, _) = server.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    Ok((proxy, client, server))
}

#[test]
fn a_proxy_passes_on_and_counts() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::to(redis.address())?;
    let url = proxy.url_of("redis://u:p@127.0.0.1:1/3?x=y");
    assert_eq!(url, format!("redis://u:p@{}/3?x=y", proxy.address()));
    let mut stream = connect(proxy.address()).unwrap();
    assert_eq!(ask(&mut stream, "PING").unwrap(), "+PONG");
    assert_eq!((proxy.connections(), proxy.accepted(), proxy.bytes()), (1, 1, 6 + 7));
    Ok(())
}

#[test]
fn a_reset_ends_what_is_open_on_both_sides_and_nothing_else() -> Result<()> {
    let (proxy, mut client, mut server) = pair()?;
    proxy.reset();
    is_reset(&mut client);
    is_reset(&mut server);
    assert_eq!(proxy.connections(), 0);
    assert!(connect(proxy.address()).is_ok());
    Ok(())
}

#[test]
fn a_reset_does_not_wait_for_who_reads_nothing() -> Result<()> {
    let (proxy, mut client, server) = pair()?;
    client.set_nonblocking(true).unwrap();
    // As much as all buffers on the way take.
    let full = |e: &std::io::Error| e.kind() == ErrorKind::WouldBlock;
    while proxy.bytes() < 4_000_000 && !client.write(&[0; 65536]).is_err_and(|e| full(&e)) {}
    proxy.reset();
    assert_eq!(proxy.connections(), 0);
    drop(server);
    Ok(())
}

#[test]
fn who_is_refused_knows_at_once_and_gets_in_later() -> Result<()> {
    let (proxy, mut client, _server) = pair()?;
    proxy.fault(Fault::Refuse);
    is_reset(&mut client);
    for _ in 0..3 {
        let refused = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    proxy.fault(Fault::None);
    assert!(connect(proxy.address()).is_ok());
    Ok(())
}

#[test]
fn a_black_hole_takes_everything_and_gives_it_back_when_it_is_over() -> Result<()> {
    let (proxy, mut client, mut server) = pair()?;
    proxy.fault(Fault::BlackHole);
    say(&mut client, "there").unwrap();
    say(&mut server, "back").unwrap();
    hears_nothing(&mut client);
    hears_nothing(&mut server);
    // Nobody hears of an end either.
    client.shutdown(Shutdown::Write).unwrap();
    hears_nothing(&mut server);
    proxy.fault(Fault::None);
    assert_eq!(
        (hear(&mut client).unwrap(), hear(&mut server).unwrap()),
        ("back".into(), "there".into())
    );
    assert_eq!(hear(&mut server).unwrap(), "");
    Ok(())
}

#[test]
fn who_comes_into_a_black_hole_is_accepted_and_hears_nothing() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::to(redis.address())?;
    proxy.fault(Fault::BlackHole);
    let mut stream = connect(proxy.address()).unwrap();
    say(&mut stream, "PING").unwrap();
    hears_nothing(&mut stream);
    let mut other = connect(proxy.address()).unwrap();
    proxy.reset();
    is_reset(&mut stream);
    is_reset(&mut other);
    Ok(())
}

#[test]
fn what_is_said_arrives_over_a_half_open_connection_and_the_answer_does_not() -> Result<()> {
    let (proxy, mut client, mut server) = pair()?;
    proxy.fault(Fault::HalfOpen);
    say(&mut client, "there").unwrap();
    assert_eq!(hear(&mut server).unwrap(), "there");
    say(&mut server, "back").unwrap();
    hears_nothing(&mut client);
    proxy.fault(Fault::None);
    assert_eq!(hear(&mut client).unwrap(), "back");
    Ok(())
}

#[test]
fn everything_is_late_and_nothing_waits_for_another() -> Result<()> {
    let (proxy, mut client, mut server) = pair()?;
    let late = Duration::from_millis(300);
    proxy.fault(Fault::Latency(late));
    let start = Instant::now();
    for word in ["a", "b", "c"] {
        say(&mut client, word).unwrap();
        // sleep: so that they come one after another
        thread::sleep(Duration::from_millis(20));
    }
    let mut all = [0; 9];
    server.read_exact(&mut all[..3]).unwrap();
    assert!(start.elapsed() >= late);
    server.read_exact(&mut all[3..]).unwrap();
    assert_eq!(&all, b"a\r\nb\r\nc\r\n");
    // One that waits is let go when nothing is wrong any more.
    proxy.fault(Fault::Latency(Duration::from_secs(3600)));
    say(&mut server, "back").unwrap();
    hears_nothing(&mut client);
    proxy.fault(Fault::None);
    assert_eq!(hear(&mut client).unwrap(), "back");
    Ok(())
}

#[test]
fn a_trickle_comes_in_small_pieces_at_its_rate() -> Result<()> {
    let (proxy, mut client, mut server) = pair()?;
    proxy.fault(Fault::Trickle { bytes_per_second: 200 });
    let start = Instant::now();
    client.write_all(&[7; 100]).unwrap();
    let mut pieces = Vec::new();
    while pieces.iter().sum::<usize>() < 100 {
        let mut bytes = [0; 100];
        pieces.push(server.read(&mut bytes).unwrap());
    }
    assert!(pieces.len() >= 2 && start.elapsed() >= Duration::from_millis(450), "{pieces:?}");
    Ok(())
}

#[test]
fn who_connects_while_the_server_is_down_is_reset() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::to(redis.address())?;
    redis.kill()?;
    is_reset(&mut connect(proxy.address()).unwrap());
    redis.start_again()?;
    let mut stream = connect(proxy.address()).unwrap();
    assert_eq!(ask(&mut stream, "PING").unwrap(), "+PONG");
    redis.kill()?;
    // What the server's side hears, an end or a reset, the client's side hears too.
    assert!(!hear(&mut stream).is_ok_and(|said| !said.is_empty()));
    Ok(())
}

#[test]
fn an_end_of_one_way_leaves_the_other_open() -> Result<()> {
    let (proxy, mut client, mut server) = pair()?;
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hear(&mut server).unwrap(), "");
    say(&mut server, "back").unwrap();
    assert_eq!(hear(&mut client).unwrap(), "back");
    assert_eq!(proxy.connections(), 1);
    drop(server);
    assert_eq!(hear(&mut client).unwrap(), "");
    while proxy.connections() > 0 {}
    Ok(())
}

#[test]
fn nothing_is_left_of_a_proxy() -> Result<()> {
    let (proxy, mut client, _server) = pair()?;
    let address = proxy.address();
    drop(proxy);
    is_reset(&mut client);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    Ok(())
}
