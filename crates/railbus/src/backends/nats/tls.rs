//! How a connection is encrypted, and whom it trusts.

use super::settings::Tls;
use crate::error::{Error, ErrorKind, Result};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::sync::{Arc, OnceLock};

const OPERATION: &str = "open nats";

/// Makes what encrypts connections, also where only the server insists on it.
///
/// # Errors
/// Returns a config error that names the file that can't be read.
pub(super) fn config(tls: &Tls) -> Result<ClientConfig> {
    let unfit = |e: rustls::Error| {
        Error::new(ErrorKind::Config, OPERATION, "the TLS settings don't fit together").because(e)
    };
    // Said here, since a program may have several providers and no default among them.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_root_certificates(roots(tls)?);
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => {
            let chain = certificates("tls_cert", cert)?;
            let read = PrivateKeyDer::from_pem_file(key);
            let key = read.map_err(|e| unreadable("tls_key", key, e))?;
            builder.with_client_auth_cert(chain, key).map_err(unfit)
        }
    }
}

fn roots(tls: &Tls) -> Result<Arc<RootCertStore>> {
    /// The system's, read once.
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let Some(path) = &tls.ca else {
        let read = || {
            let mut roots = RootCertStore::empty();
            // One that can't be read is one that nothing is trusted by.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        };
        return Ok(Arc::clone(SYSTEM.get_or_init(read)));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_ca", path)? {
        roots.add(certificate).map_err(|e| {
            let why = "tls_ca has a certificate that is no authority's";
            Error::new(ErrorKind::Config, OPERATION, why).with("file", path).because(e)
        })?;
    }
    Ok(Arc::new(roots))
}

fn certificates(key: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = read.map_err(|e| unreadable(key, path, e))?;
    if all.is_empty() {
        let why = format!("`{key}` has no certificate in it");
        return Err(Error::new(ErrorKind::Config, OPERATION, why).with("file", path));
    }
    Ok(all)
}

fn unreadable(key: &'static str, path: &str, error: rustls::pki_types::pem::Error) -> Error {
    Error::new(ErrorKind::Config, OPERATION, format!("`{key}` can't be read"))
        .with("file", path)
        .because(error)
}
