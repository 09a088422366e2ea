//! Whether a server's connections are encrypted, and who must show a certificate.

/// What a test asks of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) is_on: bool,
    pub(crate) asks_clients: bool,
    pub(crate) names: Option<Vec<String>>,
}

impl Tls {
    /// Returns the names in the server's certificate.
    pub(crate) fn names(&self) -> Vec<String> {
        let usual = || vec!["localhost".into(), "127.0.0.1".into()];
        self.names.clone().unwrap_or_else(usual)
    }
}

/// Writes the methods by which a server's options say it, all in the same way.
macro_rules! tls_options {
    () => {
        /// Has every connection encrypted, with a certificate for localhost and 127.0.0.1 that an
        /// authority of the server's own signed ([`Server::ca_path`](crate::Server::ca_path)); off
        /// by default.
        #[must_use]
        pub fn tls(mut self, on: bool) -> Self {
            self.tls.is_on = on;
            self
        }

        /// Has clients show a certificate of the server's own authority
        /// ([`Server::client_cert_path`](crate::Server::client_cert_path)), and connections
        /// encrypted.
        #[must_use]
        pub fn client_certificates(mut self) -> Self {
            self.tls.is_on = true;
            self.tls.asks_clients = true;
            self
        }

        /// Makes the server's certificate for those names, as if it were another server's.
        #[must_use]
        pub fn certificate_for(mut self, names: &[&str]) -> Self {
            self.tls.names = Some(names.iter().map(ToString::to_string).collect());
            self
        }
    };
}

pub(crate) use tls_options;
