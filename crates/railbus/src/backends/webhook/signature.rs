//! Signatures: that a request is of someone who knows the secret, and that it is of now.

use super::secret::{Secret, base64};
use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
};
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use ring::hmac::{HMAC_SHA256, Key, sign};
use std::{fmt, time::Duration};
use subtle::ConstantTimeEq;

/// How far a request's time may be from now, unless something else is said.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// How many signatures of one request are looked at.
const LOOKED_AT: usize = 16;

const GITHUB: HeaderName = HeaderName::from_static("x-hub-signature-256");
const STRIPE: HeaderName = HeaderName::from_static("stripe-signature");
pub(super) const STANDARD_ID: HeaderName = HeaderName::from_static("webhook-id");
const STANDARD_TIME: HeaderName = HeaderName::from_static("webhook-timestamp");
const STANDARD: HeaderName = HeaderName::from_static("webhook-signature");

/// How requests are signed, with which secrets: HMAC with SHA-256 in one of four forms.
///
/// | | header | what is signed |
/// |---|---|---|
/// | [`Signature::github`] | `X-Hub-Signature-256: sha256=HEX` | the body |
/// | [`Signature::standard`] | `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,BASE64` | id, time and body |
/// | [`Signature::stripe`] | `Stripe-Signature: t=SECONDS,v1=HEX` | time and body |
/// | [`Signature::hmac`] | one of your own | the body |
///
/// A request is good if one of its signatures fits one of the secrets; comparing takes as long
/// whatever is sent. Where the time is signed, it may be five minutes from now at most, in the past
/// or the future. Where it is not, whoever has seen a request can send it again: only its id tells,
/// for as long as ids are kept.
///
/// `Debug` shows no secret.
///
/// # Examples
/// ```
/// use railbus::webhook::{Encoding, Signature, TOLERANCE};
/// use std::time::Duration;
///
/// let github = Signature::github("It's a Secret to Everybody")?;
/// let headers = github.sign("id-1", b"Hello, World!").into_iter().collect();
/// assert!(github.verify(&headers, b"Hello, World!").is_ok());
/// assert!(github.verify(&headers, b"Hello, Moon!").is_err());
///
/// let standard = Signature::standard("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?
///     .or("whsec_b2xkZXIgc2VjcmV0IG9mIDI0IGJ5dGVz")? // both are good while one takes the other's place
///     .tolerance(Duration::from_secs(60));
/// assert!(Duration::from_secs(60) < TOLERANCE);
/// assert!(!format!("{standard:?}").contains("MfKQ9r8G"));
///
/// let own = Signature::hmac("X-Shop-Signature", "s3cret")?.encoding(Encoding::Base64).prefix("v1 ");
/// assert_eq!(own.sign("id-1", b"{}")[0].0, "x-shop-signature");
/// assert!(Signature::stripe("").is_err(), "an empty secret is none");
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone)]
pub struct Signature {
    scheme: Scheme,
    secrets: Vec<Key>,
    tolerance: Duration,
}

#[derive(Clone)]
enum Scheme {
    GitHub,
    Standard,
    Stripe,
    Hmac { header: HeaderName, encoding: Encoding, prefix: String },
}

/// How a signature is written.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As hexadecimal digits.
    #[default]
    Hex,
    /// As Base64.
    Base64,
}

impl Signature {
    fn of(scheme: Scheme, secret: Key) -> Self {
        Self { scheme, secrets: vec![secret], tolerance: TOLERANCE }
    }

    /// Signs as GitHub does: `X-Hub-Signature-256`.
    ///
    /// # Errors
    /// Returns a config error if the secret is empty.
    pub fn github(secret: impl AsRef<str>) -> Result<Self> {
        Ok(Self::of(Scheme::GitHub, key(secret.as_ref().as_bytes())?))
    }

    /// Signs as Standard Webhooks says, version `v1`; the secret is Base64, with or without
    /// `whsec_` before it.
    ///
    /// # Errors
    /// Returns a config error if the secret is not Base64, or empty.
    pub fn standard(secret: impl AsRef<str>) -> Result<Self> {
        Ok(Self::of(Scheme::Standard, standard_key(secret.as_ref())?))
    }

    /// Signs as Stripe does: `Stripe-Signature`, version `v1`; the secret is taken as it is.
    ///
    /// # Errors
    /// Returns a config error if the secret is empty.
    pub fn stripe(secret: impl AsRef<str>) -> Result<Self> {
        Ok(Self::of(Scheme::Stripe, key(secret.as_ref().as_bytes())?))
    }

    /// Signs the body, and sends the signature in this header, in hexadecimal digits.
    ///
    /// # Errors
    /// Returns a config error if the secret is empty, or the header can't be one.
    pub fn hmac(header: impl AsRef<str>, secret: impl AsRef<str>) -> Result<Self> {
        let header = HeaderName::try_from(header.as_ref()).map_err(|_| {
            let why = format!("`{}` is not a header's name", header.as_ref().escape_debug());
            config(why, "use letters, digits and -, such as X-Signature")
        })?;
        let scheme = Scheme::Hmac { header, encoding: Encoding::Hex, prefix: String::new() };
        Ok(Self::of(scheme, key(secret.as_ref().as_bytes())?))
    }

    /// Sets how a signature of [`Signature::hmac`] is written; the others have their own way.
    #[must_use]
    pub fn encoding(mut self, how: Encoding) -> Self {
        if let Scheme::Hmac { encoding, .. } = &mut self.scheme {
            *encoding = how;
        }
        self
    }

    /// Sets what stands before a signature of [`Signature::hmac`], such as `sha256=`.
    #[must_use]
    pub fn prefix(mut self, text: impl Into<String>) -> Self {
        if let Scheme::Hmac { prefix, .. } = &mut self.scheme {
            *prefix = text.into();
        }
        self
    }

    /// Takes another secret beside those there are: what is signed by any of them is good. What is sent
    /// is signed by all where the scheme has room for it, else by the first.
    ///
    /// # Errors
    /// As for the first secret.
    pub fn or(mut self, secret: impl AsRef<str>) -> Result<Self> {
        self.secrets.push(match self.scheme {
            Scheme::Standard => standard_key(secret.as_ref())?,
            _ => key(secret.as_ref().as_bytes())?,
        });
        Ok(self)
    }

    /// Sets how far a signed time may be from now (default: [`TOLERANCE`]).
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Checks that a request is signed, as of now.
    ///
    /// # Errors
    /// Returns a denied error that says what is wrong with its signature; nothing in it is of the
    /// request or of a secret.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<()> {
        self.verify_at(headers, body, Timestamp::now())
    }

    /// Checks that a request is signed, as of `now`.
    ///
    /// # Errors
    /// As [`Signature::verify`].
    ///
    /// # Examples
    /// ```
    /// use railbus::{clock::Timestamp, webhook::Signature};
    /// use std::time::Duration;
    ///
    /// let stripe = Signature::stripe("whsec_test")?;
    /// let headers = stripe.sign("evt-1", b"{}").into_iter().collect();
    /// let later = Timestamp::now().after(Duration::from_secs(600));
    /// let error = stripe.verify_at(&headers, b"{}", later).unwrap_err();
    /// assert_eq!(error.message(), "the signature is too old");
    /// # Ok::<(), railbus::Error>(())
    /// ```
    pub fn verify_at(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<()> {
        self.check(headers, body, now).map_err(|why| {
            Error::new(ErrorKind::Denied, "webhook", why)
                .hint("both sides must have the same secret and the right time")
        })
    }

    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), &'static str> {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        match &self.scheme {
            Scheme::GitHub => {
                let said = text(&GITHUB).ok_or(MISSING)?;
                let said = said.strip_prefix("sha256=").and_then(unhex).ok_or(MALFORMED)?;
                self.fits(&[body], &[said])
            }
            Scheme::Hmac { header, encoding, prefix } => {
                let said = text(header).ok_or(MISSING)?.strip_prefix(&**prefix);
                let said = said.and_then(|said| encoding.read(said)).ok_or(MALFORMED)?;
                self.fits(&[body], &[said])
            }
            Scheme::Standard => {
                let (id, time) = (text(&STANDARD_ID), text(&STANDARD_TIME));
                let (id, time) = (id.ok_or(MISSING)?, time.ok_or(MISSING)?);
                let list = text(&STANDARD).ok_or(MISSING)?;
                self.is_of_now(time, now)?;
                let said = list.split(' ').filter_map(|one| base64(one.strip_prefix("v1,")?));
                let said: Vec<_> = said.take(LOOKED_AT).collect();
                self.fits(&[id.as_bytes(), b".", time.as_bytes(), b".", body], &said)
            }
            Scheme::Stripe => {
                let list = text(&STRIPE).ok_or(MISSING)?;
                let parts = || list.split(',').filter_map(|part| part.trim().split_once('='));
                let time = parts().find(|(name, _)| *name == "t").ok_or(MALFORMED)?.1;
                self.is_of_now(time, now)?;
                let said = parts().filter(|(name, _)| *name == "v1").filter_map(|(_, v)| unhex(v));
                let said: Vec<_> = said.take(LOOKED_AT).collect();
                self.fits(&[time.as_bytes(), b".", body], &said)
            }
        }
    }

    /// Checks a time in seconds since 1970.
    fn is_of_now(&self, time: &str, now: Timestamp) -> Result<(), &'static str> {
        let plain = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
        let time: i64 = time.parse().ok().filter(|_| plain).ok_or("the time is not a number")?;
        let (now, most) = (now.as_micros() / 1_000_000, self.tolerance.as_secs());
        match now.saturating_sub(time) {
            past if past > 0 && past.unsigned_abs() > most => Err("the signature is too old"),
            ahead if ahead.unsigned_abs() > most => Err("the signature is of the future"),
            _ => Ok(()),
        }
    }

    /// Tells whether one of the signatures is that of these parts by one of the secrets.
    fn fits(&self, parts: &[&[u8]], said: &[Vec<u8>]) -> Result<(), &'static str> {
        let mut fits = false;
        for key in &self.secrets {
            let own = tag(key, parts);
            // All are compared, so that the time tells nothing.
            for other in said {
                fits |= bool::from(own.ct_eq(other));
            }
        }
        if fits { Ok(()) } else { Err("the signature fits no secret") }
    }

    /// Returns the headers that sign a request of this id and body, as of now.
    #[must_use]
    pub fn sign(&self, id: &str, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        self.sign_at(id, body, Timestamp::now())
    }

    fn sign_at(&self, id: &str, body: &[u8], now: Timestamp) -> Vec<(HeaderName, HeaderValue)> {
        let time = (now.as_micros() / 1_000_000).to_string();
        let all = |parts: &[&[u8]], written: fn(&[u8]) -> String, joint: &str| {
            let all = self.secrets.iter().map(|key| written(&tag(key, parts)));
            all.collect::<Vec<_>>().join(joint)
        };
        let first = |written: fn(&[u8]) -> String| {
            self.secrets.first().map(|key| written(&tag(key, &[body]))).unwrap_or_default()
        };
        let headers = match &self.scheme {
            Scheme::GitHub => vec![(GITHUB, format!("sha256={}", first(hex)))],
            Scheme::Hmac { header, encoding, prefix } => {
                vec![(header.clone(), format!("{prefix}{}", first(encoding.writer())))]
            }
            Scheme::Standard => {
                let parts: &[&[u8]] = &[id.as_bytes(), b".", time.as_bytes(), b".", body];
                let signed = all(parts, |tag| format!("v1,{}", Encoding::Base64.write(tag)), " ");
                vec![(STANDARD_ID, id.to_owned()), (STANDARD_TIME, time), (STANDARD, signed)]
            }
            Scheme::Stripe => {
                let parts: &[&[u8]] = &[time.as_bytes(), b".", body];
                let signed = all(parts, |tag| format!("v1={}", hex(tag)), ",");
                vec![(STRIPE, format!("t={time},{signed}"))]
            }
        };
        let value = |(name, text): (HeaderName, String)| Some((name, text.parse().ok()?));
        headers.into_iter().filter_map(value).collect()
    }

    /// Returns the scheme's name, as settings have it.
    pub(super) fn name(&self) -> &'static str {
        match self.scheme {
            Scheme::GitHub => "github",
            Scheme::Standard => "standard",
            Scheme::Stripe => "stripe",
            Scheme::Hmac { .. } => "hmac",
        }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}, {} secrets)", self.name(), self.secrets.len())
    }
}

const MISSING: &str = "there is no signature";
const MALFORMED: &str = "the signature is malformed";

impl Encoding {
    fn read(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => unhex(text),
            Self::Base64 => base64(text),
        }
    }

    fn write(self, bytes: &[u8]) -> String {
        self.writer()(bytes)
    }

    fn writer(self) -> fn(&[u8]) -> String {
        match self {
            Self::Hex => hex,
            Self::Base64 => super::secret::to_base64,
        }
    }
}

fn tag(key: &Key, parts: &[&[u8]]) -> Vec<u8> {
    if let [one] = parts {
        return sign(key, one).as_ref().to_vec();
    }
    let mut context = ring::hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().to_vec()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn key(secret: &[u8]) -> Result<Key> {
    match secret.is_empty() {
        true => Err(config("the secret is empty", "anybody can sign with that: set another")),
        false => Ok(Key::new(HMAC_SHA256, secret)),
    }
}

fn standard_key(secret: &str) -> Result<Key> {
    let text = secret.strip_prefix("whsec_").unwrap_or(secret);
    let bytes = base64(text).ok_or_else(|| {
        config("the secret is not Base64", "take it as the sender shows it: whsec_ and Base64")
    })?;
    key(&bytes)
}

fn config(why: impl Into<std::borrow::Cow<'static, str>>, hint: &str) -> Error {
    Error::new(ErrorKind::Config, "webhook", why).hint(hint)
}

impl Secret {
    /// Makes a signature of a scheme's name and its secrets.
    pub(super) fn sign_as(
        secrets: &[Self],
        first: impl FnOnce(&str) -> Result<Signature>,
    ) -> Result<Option<Signature>> {
        let Some((one, more)) = secrets.split_first() else { return Ok(None) };
        let signature = first(one.text())?;
        more.iter().try_fold(signature, |all, secret| all.or(secret.text())).map(Some)
    }
}
