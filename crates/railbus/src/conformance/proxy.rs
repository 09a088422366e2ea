//! A way to a server that fails when it is told to.

use super::finding::{Broken, Checked};
use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

/// How many bytes are carried at once, and how many such pieces are under way at most.
/// How soon connections are taken again when the machine could not.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

const CHUNK: usize = 16 << 10;
const CHUNKS: usize = 256;

/// What the way is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    /// All that is sent arrives.
    Clear,
    /// Nothing arrives, and nobody is told.
    BlackHole,
    /// All arrives so much later.
    Late(Duration),
}

/// A TCP proxy in this process, before one server. It ends when it is dropped.
pub(super) struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    resets: watch::Sender<u64>,
    open: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

/// What each connection knows.
#[derive(Clone)]
struct Shared {
    upstream: Arc<str>,
    way: watch::Receiver<Way>,
    resets: watch::Receiver<u64>,
    open: Arc<AtomicUsize>,
}

impl Proxy {
    /// Opens a proxy before the server at `upstream`, a host and a port.
    pub(super) async fn open(upstream: &str) -> Checked<Self> {
        let failed = |e| Broken::new(format!("the proxy before {upstream} can't be opened: {e}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (way, resets) = (watch::Sender::new(Way::Clear), watch::Sender::new(0));
        let open = Arc::<AtomicUsize>::default();
        let shared = Shared {
            upstream: upstream.into(),
            way: way.subscribe(),
            resets: resets.subscribe(),
            open: Arc::clone(&open),
        };
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, shared)));
        Ok(Self { address, way, resets, open, _accepting: accepting })
    }

    /// Returns where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the way such from now on.
    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Cuts all connections off at once, as a server that is gone does: by RST.
    pub(super) fn reset(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    /// Returns how many connections are open.
    pub(super) fn connections(&self) -> usize {
        self.open.load(SeqCst)
    }
}

async fn accept(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((near, _)) = listener.accept().await else {
            // Such as too many open files: passes, and is no fault of who is tried.
            tokio::time::sleep(AGAIN_AFTER).await;
            continue;
        };
        connections.spawn(carry(near, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Counts a connection as long as it is open.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, SeqCst);
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn carry(mut near: TcpStream, shared: Shared) {
    let Shared { upstream, way, mut resets, open } = shared;
    let _counted = Counted::new(open);
    // What was reset before is not meant.
    resets.borrow_and_update();
    let Ok(mut far) = TcpStream::connect(&*upstream).await else { return cut(&near) };
    for stream in [&near, &far] {
        // Without it all is slower, and the same.
        let _ = stream.set_nodelay(true);
    }
    let was_cut = {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let (there, back) = (pump(near_in, far_out, way.clone()), pump(far_in, near_out, way));
        tokio::select! {
            ended = async { tokio::try_join!(there, back) } => ended.is_err(),
            _ = resets.changed() => true,
        }
    };
    if was_cut {
        cut(&near);
        cut(&far);
    }
}

/// Has the stream end by RST when it is dropped.
fn cut(stream: &TcpStream) {
    // One that can't be cut off is closed in order.
    let _ = stream.set_zero_linger();
}

/// Carries what comes from one side to the other, in the way that is told.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut way: watch::Receiver<Way>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    // What is under way, and when it arrives.
    let mut late: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut ended = false;
    loop {
        let now = *way.borrow_and_update();
        while now != Way::BlackHole && late.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            let Some((_, bytes)) = late.pop_front() else { break };
            to.write_all(&bytes).await?;
        }
        if ended && late.is_empty() {
            return to.shutdown().await;
        }
        let due = late.front().map(|(due, _)| *due).filter(|_| now != Way::BlackHole);
        tokio::select! {
            changed = way.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            read = from.read(&mut buffer), if !ended && late.len() < CHUNKS => {
                let count = read?;
                ended = count == 0;
                let after = if let Way::Late(by) = now { by } else { Duration::ZERO };
                if !ended {
                    late.push_back((Instant::now() + after, buffer[..count].to_vec()));
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a server that says everything back, and a proxy before it.
    async fn echo() -> (Proxy, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let upstream = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        (Proxy::open(&upstream).await.unwrap(), AbortOnDropHandle::new(serving))
    }

    async fn say(stream: &mut TcpStream, text: &str) -> io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard).await?;
        Ok(String::from_utf8_lossy(&heard).into_owned())
    }

    #[tokio::test]
    async fn a_reset_is_an_error_to_both_and_new_connections_are_served() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut stream, "hello").await.unwrap(), "hello");
        assert_eq!(proxy.connections(), 1);
        proxy.reset();
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut again, "again").await.unwrap(), "again");
        assert_eq!(proxy.connections(), 1);
    }

    #[tokio::test]
    async fn what_a_black_hole_took_arrives_when_the_way_is_clear_again() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set(Way::BlackHole);
        let saying = say(&mut stream, "hello");
        let mut saying = std::pin::pin!(saying);
        let held = tokio::time::timeout(Duration::from_millis(50), &mut saying).await;
        assert!(held.is_err(), "{held:?}");
        proxy.set(Way::Clear);
        assert_eq!(saying.await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn what_is_late_is_late_both_ways() {
        let (proxy, _server) = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set(Way::Late(Duration::from_millis(30)));
        let began = Instant::now();
        assert_eq!(say(&mut stream, "hello").await.unwrap(), "hello");
        assert!(began.elapsed() >= Duration::from_millis(60), "{:?}", began.elapsed());
    }
}
