//! The `[[on]]` tables with a `url`: what is posted to elsewhere.

use super::{
    bus::Environment,
    hooks::{secrets, text},
    spec::EndpointSpec,
    table::{Field, Table},
};
use crate::{
    backends::webhook::signature,
    options::Options,
    webhook::{Endpoint, Mode},
};

const MODES: [(&str, Mode); 3] =
    [("binary", Mode::Binary), ("structured", Mode::Structured), ("payload", Mode::Payload)];

/// The keys that say how requests are signed, as those of an input of kind `http`.
const SIGNED: [&str; 6] = [
    "scheme",
    "secret",
    "secret_env",
    "signature_header",
    "signature_encoding",
    "signature_prefix",
];

/// Reads the keys that belong to a `url`; `None` if one is wrong.
pub(super) fn read(
    url: &Field<'_>,
    table: &Table<'_>,
    environment: &Environment,
) -> Option<EndpointSpec> {
    let endpoint =
        url.text().and_then(|text| Endpoint::new(text).map_err(|e| url.refused(&e)).ok());
    let mode = table.take("mode").map(|field| field.one_of(&MODES));
    let timeout = table.take("timeout").map(|field| field.duration());
    let private = table.take("allow_private").map(|field| field.boolean());
    let mut options = Options::parse("webhook:").ok()?;
    let (mut whole, mut said) = (true, Vec::new());
    for key in SIGNED {
        let Some(field) = table.take(key) else { continue };
        let value = match key {
            "secret_env" => secrets(&field, environment),
            _ => text(&field),
        };
        match value {
            Some(value) if key == "secret_env" => options.set("secret", value),
            Some(value) => options.set(key, value),
            None => whole = false,
        }
        said.push(field);
    }
    if !whole {
        return None;
    }
    let signature = match signature(&options) {
        Ok(signature) => signature,
        Err(error) => {
            match said.first() {
                Some(field) => field.refused(&error),
                None => url.refused(&error),
            }
            return None;
        }
    };
    let (mut endpoint, mut as_said) =
        (endpoint?, vec![url.text()?.to_owned(), options.to_string()]);
    if let Some(signature) = signature {
        endpoint = endpoint.sign(signature);
    }
    if let Some(mode) = mode {
        endpoint = endpoint.mode(mode?);
        as_said.push(format!("{mode:?}"));
    }
    if let Some(timeout) = timeout {
        endpoint = endpoint.timeout(timeout?);
        as_said.push(format!("{timeout:?}"));
    }
    if private.map_or(Some(false), |private| private)? {
        endpoint = endpoint.allow_private();
        as_said.push("private".into());
    }
    Some(EndpointSpec { endpoint, said: as_said })
}
