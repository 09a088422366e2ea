//! The certificate that the server shows.

use crate::error::{Error, ErrorKind, Result};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{path::Path, sync::Arc};
use tokio_rustls::TlsAcceptor;

/// Reads certificate and key, and makes what encrypts connections.
pub(super) fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor> {
    let unfit = |what: &'static str, path: &Path, why: String| {
        Error::new(ErrorKind::Config, "open webhook", format!("{what} can't be used: {why}"))
            .with("path", path.display())
            .hint("name a PEM file, and let the user this runs as read it")
    };
    let chain =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|e| unfit("tls_cert", cert, e.to_string()))?;
    if chain.is_empty() {
        return Err(unfit("tls_cert", cert, "there is no certificate in it".into()));
    }
    let private = PrivateKeyDer::from_pem_file(key);
    let private = private.map_err(|e| unfit("tls_key", key, e.to_string()))?;
    // Named, since a program may have several and then must say which.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|e| unfit("the certificate with its key", cert, e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
