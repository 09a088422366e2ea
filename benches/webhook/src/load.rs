//! What senders send: 1 KiB of JSON, signed as GitHub does, over connections that stay open.

use harness::{Failed, Result, Timed, processor};
use railbus::webhook::Signature;
use std::{future::Future, net::SocketAddr, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) const SECRET: &str = "It's a Secret to Everybody";

/// Returns a body of 1 KiB.
pub(crate) fn body() -> String {
    let text = r#"{"type":"order.placed","number":7,"note":""}"#;
    text.replace("\"\"", &format!("\"{}\"", "x".repeat(1024 - text.len())))
}

/// Returns a request with an id of its own, as bytes.
pub(crate) fn request(id: &str) -> Result<Vec<u8>> {
    let body = body();
    let signed = Signature::github(SECRET)?.sign(id, body.as_bytes());
    let signed = signed.first().ok_or("it is not signed")?.1.to_str()?.to_owned();
    Ok(format!(
        "POST /hooks HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n\
         x-github-event: order.placed\r\nx-github-delivery: {id}\r\nx-hub-signature-256: {signed}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes())
}

/// Sends so many requests over so many connections, each after the answer to the one before; returns how
/// many were answered 200.
pub(crate) async fn send(address: SocketAddr, times: u64, senders: u64, run: u64) -> Result<u64> {
    let tasks: Vec<_> = (0..senders)
        .map(|sender| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let mut good = 0;
                let template = request(&format!("{run:08}-{sender:04}-00000000"))?;
                let at = template.windows(9).position(|nine| nine == b"-00000000");
                let at = at.ok_or("there is no number in it")? + 1;
                let (mut bytes, mut buffer) = (template, [0; 1024]);
                for number in (sender..times).step_by(senders as usize) {
                    bytes[at..at + 8].copy_from_slice(format!("{number:08}").as_bytes());
                    stream.write_all(&bytes).await?;
                    let count = stream.read(&mut buffer).await?;
                    good += u64::from(buffer[..count].starts_with(b"HTTP/1.1 200"));
                }
                Ok::<u64, Failed>(good)
            })
        })
        .collect();
    let mut good = 0;
    for task in tasks {
        good += task.await??;
    }
    Ok(good)
}

/// Times what a future does.
pub(crate) async fn timed(work: impl Future<Output = Result<u64>>) -> Result<Timed> {
    let (cpu, began) = (processor(), Instant::now());
    let arrived = work.await?;
    Ok(Timed { elapsed: began.elapsed(), cpu: processor().saturating_sub(cpu), arrived })
}
