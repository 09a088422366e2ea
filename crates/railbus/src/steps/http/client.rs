//! The client: connections that are kept open, shared by all steps of the program.

use super::reach::{REFUSED, Reach, Resolver};
use crate::error::chain;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, Uri, body::Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pooled, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::runtime::{Handle, Id};

/// How long a connection that nobody uses is kept open. Servers give up on one after 60 s or more,
/// mostly; a request on one that is being given up may be lost.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// For how many runtimes clients are kept.
const RUNTIMES_MAX: usize = 8;

/// The clients in use, the newest last. Connections belong to the runtime that opened them; a
/// program has one, its tests may have many.
static CLIENTS: Mutex<Vec<(Id, Arc<Client>)>> = Mutex::new(Vec::new());

type Plain = HttpConnector<Resolver>;
type Secure = Pooled<HttpsConnector<Plain>, Full<Bytes>>;

/// Keeps connections to servers, for one runtime.
pub(crate) struct Client {
    reach: Reach,
    plain: Pooled<Plain, Full<Bytes>>,
    // Made when needed: it reads the system's certificates, of which there may be none.
    secure: OnceLock<Result<Secure, String>>,
}

impl Client {
    /// Returns the client of the runtime that the caller runs on, for addresses within reach.
    pub(crate) fn of(runtime: &Handle, reach: Reach) -> Arc<Self> {
        // What a panic may leave behind is a client too many or too few.
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) =
            clients.iter().find(|(id, one)| *id == runtime.id() && one.reach == reach)
        {
            return Arc::clone(client);
        }
        let client = Arc::new(Self {
            reach,
            plain: builder().build(connector(reach)),
            secure: OnceLock::new(),
        });
        if clients.len() == RUNTIMES_MAX {
            clients.remove(0);
        }
        clients.push((runtime.id(), Arc::clone(&client)));
        client
    }

    /// Sends a request and waits for the head of its answer; the error says why there is none.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, String> {
        // An address that is no name is not looked up.
        let host = request.uri().host().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if ip.is_ok_and(|ip| !self.reach.allows(ip)) {
            return Err(REFUSED.into());
        }
        let said = match is_secure(request.uri()) {
            true => {
                self.secure
                    .get_or_init(|| secure(self.reach))
                    .as_ref()
                    .map_err(Clone::clone)?
                    .request(request)
                    .await
            }
            false => self.plain.request(request).await,
        };
        said.map_err(|error| chain(&error))
    }
}

fn is_secure(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Pooled::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_MAX);
    builder
}

fn connector(reach: Reach) -> Plain {
    let mut connector = HttpConnector::new_with_resolver(Resolver::new(reach));
    connector.set_nodelay(true);
    connector
}

/// Trusts the certificates that the system trusts.
fn secure(reach: Reach) -> Result<Secure, String> {
    let mut connector = connector(reach);
    connector.enforce_http(false);
    // Named, since a program may have several and then must say which.
    let provider = rustls::crypto::ring::default_provider();
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map_err(|error| format!("the system's certificates can't be used: {error}"))?;
    Ok(builder().build(tls.https_only().enable_http1().wrap_connector(connector)))
}
