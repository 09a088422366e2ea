//! How the service is reached: one client for a bus, made once.

use super::{fault::no_credentials, settings::Settings};
use crate::error::{Error, ErrorKind, Result};
use aws_config::BehaviorVersion;
use aws_sdk_sqs::{
    Client,
    config::{
        Credentials, ProvideCredentials, Region, StalledStreamProtectionConfig, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use std::time::Duration;
use tokio::time::timeout;

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long it may take to find credentials: a machine may be asked that is not there.
const CREDENTIALS_WITHIN: Duration = Duration::from_secs(15);

/// Makes the client, and looks for credentials.
///
/// # Errors
/// Returns a config error if no region is named, a denied one if there are no credentials.
pub(super) async fn connect(settings: &Settings) -> Result<Client> {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        // Who asks again, and how long an answer may take, is said where it is asked.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_WITHIN).build())
        // A long poll stands still by design.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(keys) = &settings.keys {
        let keys = Credentials::new(&*keys.id, &*keys.secret, keys.token.clone(), None, "railbus");
        loader = loader.credentials_provider(keys);
    }
    let loaded = loader.load().await;
    if loaded.region().is_none() {
        let why = "the queue's region is not known";
        return Err(Error::new(ErrorKind::Config, "open sqs", why)
            .with("queue", settings.place.url())
            .hint("set region_name, or AWS_REGION in the environment"));
    }
    let Some(provider) = loaded.credentials_provider() else {
        return Err(no_credentials("open sqs").error);
    };
    match timeout(CREDENTIALS_WITHIN, provider.provide_credentials()).await {
        Ok(Ok(_)) => Ok(Client::new(&loaded)),
        Ok(Err(error)) => Err(no_credentials("open sqs").error.because(error)),
        Err(elapsed) => Err(no_credentials("open sqs").error.because(elapsed)),
    }
}
