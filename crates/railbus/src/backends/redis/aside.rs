//! A way to the server on which the answers of reads stay as they came.
//!
//! The client makes a value of its own of each part of an answer, which for events by the thousand
//! costs more than all else that is done with them. So this stands between client and socket. It hands
//! on what comes, frame by frame; but what brings entries of a stream it puts on a shelf, whole, and
//! hands the client a number in its place.

use bytes::{Buf, Bytes, BytesMut};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// How much is read at once.
const READ: usize = 64 << 10;

/// How much room for what comes is kept.
const ROOM_MAX: usize = 1 << 20;

/// Answers that wait to be fetched, by their numbers.
#[derive(Debug, Default)]
pub(in crate::backends) struct Shelf(Mutex<Vec<(u64, Bytes)>>);

impl Shelf {
    fn answers(&self) -> MutexGuard<'_, Vec<(u64, Bytes)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, answer: Bytes) -> u64 {
        // No two connections give the same: an answer that comes late is nobody else's.
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Relaxed);
        self.answers().push((number, answer));
        number
    }

    /// Takes the answer of this number; earlier ones are waited for by nobody any more.
    pub(in crate::backends) fn take(&self, number: u64) -> Option<Bytes> {
        let mut answers = self.answers();
        answers.retain(|(of, _)| *of >= number);
        let at = answers.iter().position(|(of, _)| *of == number)?;
        Some(answers.swap_remove(at).1)
    }
}

/// A socket, what came on it and is not a whole frame yet, and what is to be handed on.
#[derive(Debug)]
pub(super) struct Aside<S> {
    socket: S,
    shelf: Arc<Shelf>,
    came: BytesMut,
    // How far the frame that `came` begins with was looked through.
    seen: Seen,
    next: Bytes,
    // What came was no frame: from there on all is the client's to judge.
    is_odd: bool,
}

impl<S> Aside<S> {
    pub(super) fn new(socket: S, shelf: Arc<Shelf>) -> Self {
        Self {
            socket,
            shelf,
            came: BytesMut::new(),
            seen: Seen::new(),
            next: Bytes::new(),
            is_odd: false,
        }
    }

    /// Makes ready what is to be handed on; false if more must come first.
    fn make_next(&mut self) -> bool {
        match whole(&self.came, &mut self.seen) {
            Frame::Whole(length) => {
                self.seen = Seen::new();
                // Copied, so that who keeps it keeps no more, and the room is used again.
                let frame = Bytes::copy_from_slice(&self.came[..length]);
                self.came.advance(length);
                if self.came.is_empty() && self.came.capacity() > ROOM_MAX {
                    self.came = BytesMut::new();
                }
                self.next = match brings_entries(&frame) {
                    true => format!(":{}\r\n", self.shelf.put(frame)).into(),
                    false => frame,
                };
                true
            }
            Frame::Part => false,
            Frame::Odd => {
                self.is_odd = true;
                self.next = self.came.split().freeze();
                true
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Aside<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.next.is_empty() {
                let length = this.next.len().min(buf.remaining());
                buf.put_slice(&this.next.split_to(length));
                return Poll::Ready(Ok(()));
            }
            if this.is_odd {
                return Pin::new(&mut this.socket).poll_read(cx, buf);
            }
            if this.make_next() {
                continue;
            }
            this.came.reserve(READ);
            let read = ready!(poll_read_buf(Pin::new(&mut this.socket), cx, &mut this.came))?;
            if read == 0 {
                // The end, in the middle of a frame or not.
                this.next = this.came.split().freeze();
                let length = this.next.len().min(buf.remaining());
                buf.put_slice(&this.next.split_to(length));
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Aside<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// What the bytes that came begin with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Frame {
    /// A frame of so many bytes.
    Whole(usize),
    /// A part of one.
    Part,
    /// None.
    Odd,
}

/// How far a frame was looked through: where the next of its parts begins, and how many are to come.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: usize,
    open: u64,
}

impl Seen {
    /// Begins with a frame.
    const fn new() -> Self {
        Self { at: 0, open: 1 }
    }
}

/// Finds the end of the first frame, going on from where it was seen to before: an answer comes in
/// pieces by the thousand. Source: the specification of RESP3.
fn whole(bytes: &[u8], seen: &mut Seen) -> Frame {
    while seen.open > 0 {
        let Seen { mut at, mut open } = *seen;
        let Some(length) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\n'))
        else {
            return Frame::Part;
        };
        let line = &bytes[at..at + length];
        at += length + 1;
        open -= 1;
        let number = || std::str::from_utf8(line.get(1..)?.trim_ascii_end()).ok()?.parse().ok();
        let more: i64 = match line.first() {
            Some(b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(') => -1,
            Some(b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' | b'|') => match number() {
                Some(number) => number,
                None => return Frame::Odd,
            },
            _ => return Frame::Odd,
        };
        // Below none: it ends with its line, as null does where older versions write it.
        if let Ok(more) = u64::try_from(more) {
            match line.first() {
                Some(b'$' | b'!' | b'=') => {
                    let Ok(more) = usize::try_from(more) else { return Frame::Odd };
                    at = at.saturating_add(more).saturating_add(2);
                }
                Some(b'%') => open = open.saturating_add(more.saturating_mul(2)),
                // Attributes come before what they are about.
                Some(b'|') => open = open.saturating_add(more.saturating_mul(2) + 1),
                _ => open = open.saturating_add(more),
            }
        }
        *seen = Seen { at, open };
    }
    if seen.at <= bytes.len() { Frame::Whole(seen.at) } else { Frame::Part }
}

/// Tells whether a frame is a map of one stream: nothing else that is asked on such a connection is
/// answered so.
fn brings_entries(frame: &[u8]) -> bool {
    frame.starts_with(b"%1\r\n$")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const ENTRIES: &[u8] =
        b"%1\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nk\r\n$4\r\n\r\n*9\r\n";

    #[test]
    fn a_frame_ends_where_all_of_its_parts_do() {
        let frames: [&[u8]; 9] = [
            b"+OK\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"_\r\n",
            b"$2\r\n\r\n\r\n",
            b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n",
            b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\ng\r\n",
            b"|1\r\n+a\r\n+b\r\n:7\r\n",
            ENTRIES,
        ];
        for frame in frames {
            let shown = String::from_utf8_lossy(frame);
            for part in 0..frame.len() {
                let seen = &mut Seen::new();
                assert_eq!(whole(&frame[..part], seen), Frame::Part, "{part} of {shown:?}");
                // What was seen is not looked at again.
                let rest = &frame[seen.at.min(frame.len())..];
                let skipped = vec![0; frame.len() - rest.len()];
                let end = whole(&[&skipped, rest].concat(), seen);
                assert_eq!(end, Frame::Whole(frame.len()), "{part} of {shown:?}");
            }
            let more = [frame, b"+OK\r\n"].concat();
            let end = whole(&more, &mut Seen::new());
            assert_eq!(end, Frame::Whole(frame.len()), "{shown:?}");
        }
        for odd in ["HTTP/1.1 400\r\n", "$x\r\n", "\r\n"] {
            assert_eq!(whole(odd.as_bytes(), &mut Seen::new()), Frame::Odd, "{odd:?}");
        }
    }

    #[tokio::test]
    async fn entries_are_put_aside_and_all_else_is_handed_on_however_it_is_cut() {
        let push = b">2\r\n+message\r\n+g\r\n";
        let said = [b"+OK\r\n", ENTRIES, push, ENTRIES, b"-ERR no\r\n"].concat();
        for size in [1, 7, 1000] {
            let (ours, mut server) = tokio::io::duplex(size);
            let shelf = Arc::<Shelf>::default();
            let mut aside = Aside::new(ours, Arc::clone(&shelf));
            let said = said.clone();
            tokio::spawn(async move { server.write_all(&said).await });
            let mut heard = String::new();
            aside.read_to_string(&mut heard).await.unwrap();
            let numbers: Vec<u64> = heard
                .lines()
                .filter_map(|line| line.strip_prefix(':').map(|n| n.parse().unwrap()))
                .collect();
            let [first, second] = numbers[..] else { panic!("{heard}") };
            let push = String::from_utf8_lossy(push);
            assert_eq!(heard, format!("+OK\r\n:{first}\r\n{push}:{second}\r\n-ERR no\r\n"));
            assert_eq!(shelf.take(first).unwrap(), ENTRIES);
            assert_eq!(shelf.take(second).unwrap(), ENTRIES);
            assert_eq!(shelf.take(second), None);
        }
    }

    #[tokio::test]
    async fn what_is_not_this_protocol_is_the_clients_to_judge() {
        for said in ["HTTP/1.1 400 Bad Request\r\n\r\n", "$5\r\nab"] {
            let (ours, mut server) = tokio::io::duplex(9);
            tokio::spawn(async move { server.write_all(said.as_bytes()).await });
            let mut heard = String::new();
            Aside::new(ours, Arc::default()).read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, said);
        }
    }
}
