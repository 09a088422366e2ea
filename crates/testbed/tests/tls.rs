//! Connections are encrypted, and whoever is not who he should be is not let in.
#![allow(clippy::unwrap_used)]

#[path = "common/plain.rs"]
mod plain;

use plain::{ask, connect};
use railbus_testbed::{Postgres, Redis, Result, Server};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{io, net::TcpStream, path::Path, sync::Arc};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects as a client who trusts that authority, and shows that certificate.
fn client(server: &Server, ca: &Path, shown: Option<[&Path; 2]>) -> io::Result<Stream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config =
        config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match shown {
        Some([certificate, key]) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    Ok(StreamOwned::new(connection, connect(server.address())?))
}

fn ping(server: &Server, ca: &Path, shown: Option<[&Path; 2]>) -> io::Result<String> {
    ask(&mut client(server, ca, shown)?, "PING")
}

#[test]
fn redis_is_who_its_authority_says() -> Result<()> {
    let redis = Redis::options().tls(true).start()?;
    assert!(redis.url("redis").contains("?tls=true&tls_ca=/"));
    assert_eq!(ping(&redis, &redis.ca_path(), None).unwrap(), "+PONG");
    let why = ping(&redis, &redis.strangers_ca_path(), None).unwrap_err().to_string();
    assert!(why.contains("UnknownIssuer"), "{why}");
    // In the clear nobody gets anywhere.
    let mut clear = connect(redis.address()).unwrap();
    assert!(!ask(&mut clear, "PING").is_ok_and(|said| said.contains("PONG")));
    Ok(())
}

#[test]
fn redis_asks_its_clients_who_they_are() -> Result<()> {
    let redis = Redis::options().client_certificates().start()?;
    assert!(redis.url("redis").contains("&tls_cert=/"));
    let ca = redis.ca_path();
    let (own, key) = (redis.client_cert_path(), redis.client_key_path());
    assert_eq!(ping(&redis, &ca, Some([&own, &key])).unwrap(), "+PONG");
    let (strange, key) = (redis.strangers_cert_path(), redis.strangers_key_path());
    for shown in [None, Some([&*strange, &*key])] {
        assert!(!ping(&redis, &ca, shown).is_ok_and(|said| said.contains("PONG")));
    }
    Ok(())
}

#[test]
fn a_certificate_for_another_name_is_refused() -> Result<()> {
    let redis = Redis::options().tls(true).certificate_for(&["cache.example"]).start()?;
    let why = ping(&redis, &redis.ca_path(), None).unwrap_err().to_string();
    assert!(why.contains("not valid for name"), "{why}");
    Ok(())
}

#[test]
fn postgresql_is_who_its_authority_says() -> Result<()> {
    let postgres = Postgres::options().tls(true).password("pw").start()?;
    let url = postgres.url("postgresql");
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(postgres.psql_at(&url, sql)?, "t");
    let strange = postgres.strangers_ca_path();
    let (before, _) = url.split_once("sslrootcert=").unwrap();
    let strange = format!("{before}sslrootcert={}", strange.display());
    let why = postgres.psql_at(&strange, sql).unwrap_err().to_string();
    assert!(why.contains("certificate verify failed"), "{why}");
    let clear = url.replace("verify-full", "disable");
    let why = postgres.psql_at(&clear, sql).unwrap_err().to_string();
    assert!(why.contains("no encryption"), "{why}");
    Ok(())
}

#[test]
fn postgresql_asks_its_clients_who_they_are() -> Result<()> {
    let postgres = Postgres::options().client_certificates().start()?;
    let url = postgres.url("postgresql");
    let sql = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(postgres.psql_at(&url, sql)?, "/CN=postgres");
    let (without, _) = url.split_once("&sslcert=").unwrap();
    // Else a certificate in the home folder would be shown.
    let without = format!("{without}&sslcert=/none&sslkey=/none");
    let why = postgres.psql_at(&without, sql).unwrap_err().to_string();
    assert!(why.contains("valid client certificate"), "{why}");
    let strange = postgres.strangers_cert_path();
    let strange =
        url.replace(&*postgres.client_cert_path().to_string_lossy(), &strange.to_string_lossy());
    let key = postgres.strangers_key_path();
    let strange =
        strange.replace(&*postgres.client_key_path().to_string_lossy(), &key.to_string_lossy());
    assert!(postgres.psql_at(&strange, sql).is_err());
    Ok(())
}
