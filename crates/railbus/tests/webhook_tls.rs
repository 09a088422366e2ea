//! Webhooks over TLS, with a certificate of one's own.
#![cfg(feature = "webhook")]
#![allow(clippy::unwrap_used)]

mod hooked;

use hooked::{Client, request};
use railbus::{ErrorKind, Event, json, webhook::WebhookConsumer};
use std::{fs, sync::Arc};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, pem::PemObject},
    },
};

#[tokio::test]
async fn who_speaks_tls_is_answered_and_who_does_not_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let map = json!({
        "backend": "webhook", "port": 0, "path": "/", "idle_timeout": "200ms",
        "tls_cert": cert.to_str().unwrap(), "tls_key": key.to_str().unwrap(),
    });
    let hooks = WebhookConsumer::open(map).await.unwrap();
    hooks.on("*").run(async |_: Event| {}).await.unwrap();
    hooks.start().await.unwrap();
    let address = hooks.address().unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut plain = Client::to(address).await;
    plain.send(request("/", &[], "1")).await;
    assert!(plain.answer().await.is_none(), "it speaks no TLS");
    for _ in 0..2 {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut client = Client::over(connector.connect(name, stream).await.unwrap());
        for _ in 0..2 {
            client.send(request("/", &[], "1")).await;
            assert_eq!(client.answer().await.unwrap().status, 200);
        }
    }
    let left = silent.read(&mut [0; 8]).await;
    assert!(matches!(left, Ok(0) | Err(_)), "one that says nothing is let go");
    hooks.stop().await.unwrap();

    fs::write(&key, "no key").unwrap();
    for (cert, key, says) in [
        (cert.to_str().unwrap(), key.to_str().unwrap(), "tls_key can't be used"),
        (key.to_str().unwrap(), key.to_str().unwrap(), "no certificate in it"),
        ("/none.pem", "/none.pem", "tls_cert can't be used"),
    ] {
        let map = json!({ "backend": "webhook", "port": 0, "tls_cert": cert, "tls_key": key });
        let error = WebhookConsumer::open(map).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(says), "{error}");
    }
    let half = json!({ "backend": "webhook", "port": 0, "tls_cert": "/a.pem" });
    assert!(WebhookConsumer::open(half).await.unwrap_err().to_string().contains("go together"));
}
