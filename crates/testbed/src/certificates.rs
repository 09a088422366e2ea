//! Certificates of a server's own: an authority, what it signed, and what another one signed.

use crate::{
    error::{Error, Result},
    folder::Folder,
    user::User,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The files' names, in a server's folder.
pub(crate) const CA: &str = "ca.pem";
pub(crate) const STRANGERS_CA: &str = "strangers-ca.pem";
pub(crate) const SERVER: (&str, &str) = ("server.pem", "server.key");
pub(crate) const CLIENT: (&str, &str) = ("client.pem", "client.key");
pub(crate) const STRANGER: (&str, &str) = ("stranger.pem", "stranger.key");

/// Writes all of them: the server's for those names, and a client's and a stranger's for that
/// name.
pub(crate) fn make(
    folder: &Folder,
    user: Option<User>,
    names: &[String],
    client: &str,
) -> Result<()> {
    write(folder, user, names, client).map_err(|why| match why {
        Problem::Certificate(why) => Error::new(format!("make certificates: {why}")),
        Problem::File(why) => why,
    })
}

enum Problem {
    Certificate(rcgen::Error),
    File(Error),
}

impl From<rcgen::Error> for Problem {
    fn from(why: rcgen::Error) -> Self {
        Self::Certificate(why)
    }
}

impl From<Error> for Problem {
    fn from(why: Error) -> Self {
        Self::File(why)
    }
}

type Written = std::result::Result<(), Problem>;

fn write(folder: &Folder, user: Option<User>, names: &[String], client: &str) -> Written {
    let put = |(certificate, key): (&str, &str), signed: &Signed, user| -> Written {
        folder.write(certificate, &signed.certificate, user)?;
        folder.write(key, &signed.key, user)?;
        Ok(())
    };
    let (ca, authority) = authority("Railbus testbed")?;
    folder.write(CA, &ca, user)?;
    let server = signed(&authority, "server", names, ExtendedKeyUsagePurpose::ServerAuth)?;
    put(SERVER, &server, user)?;
    put(CLIENT, &signed(&authority, client, &[], ExtendedKeyUsagePurpose::ClientAuth)?, None)?;
    let (ca, authority) = self::authority("Somebody else")?;
    folder.write(STRANGERS_CA, &ca, None)?;
    put(STRANGER, &signed(&authority, client, &[], ExtendedKeyUsagePurpose::ClientAuth)?, None)
}

struct Signed {
    certificate: String,
    key: String,
}

fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok((certificate, Issuer::new(params, key)))
}

fn signed(
    authority: &Issuer<'static, KeyPair>,
    name: &str,
    names: &[String],
    purpose: ExtendedKeyUsagePurpose,
) -> Result<Signed, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?.pem();
    Ok(Signed { certificate, key: key.serialize_pem() })
}
