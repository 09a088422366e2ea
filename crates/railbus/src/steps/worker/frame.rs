//! Frames: a length of four bytes, the highest first, then so many bytes.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What came in place of a frame.
#[derive(Debug)]
pub(super) enum Bad {
    /// Nothing more: the other side is through, or gone.
    End,
    /// The end, in the middle of a frame.
    Cut,
    /// These four bytes, as a length more than is allowed.
    TooMuch([u8; 4]),
}

/// Writes a frame.
///
/// # Errors
/// Returns an error if the pipe is broken or the text does not fit.
pub(super) async fn write(pipe: &mut (impl AsyncWrite + Unpin), text: &[u8]) -> io::Result<()> {
    let length = u32::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    pipe.write_all(&length.to_be_bytes()).await?;
    pipe.write_all(text).await?;
    pipe.flush().await
}

/// Reads a frame of at most `max` bytes.
pub(super) async fn read(pipe: &mut (impl AsyncRead + Unpin), max: usize) -> Result<Vec<u8>, Bad> {
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match pipe.read(&mut head[have..]).await {
            Ok(0) | Err(_) if have == 0 => return Err(Bad::End),
            Ok(0) | Err(_) => return Err(Bad::Cut),
            Ok(read) => have += read,
        }
    }
    let length = u32::from_be_bytes(head);
    let wanted = usize::try_from(length).unwrap_or(usize::MAX);
    if wanted > max {
        return Err(Bad::TooMuch(head));
    }
    // Grows with what comes, whatever was announced.
    let mut text = Vec::new();
    match pipe.take(u64::from(length)).read_to_end(&mut text).await {
        Ok(read) if read == wanted => Ok(text),
        _ => Err(Bad::Cut),
    }
}
