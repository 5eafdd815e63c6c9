//! What a TLS connection needs besides the certificates of the system.

use std::fs;
use std::path::{Path, PathBuf};

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::options::Options;

/// Names of files: they are read again for each connection, because certificates are renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The authorities that sign the servers' certificates, instead of the system's.
    authority: Option<PathBuf>,
    /// Our own certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Reads the options, and once the files that they name.
    pub(super) fn read(options: &mut Options) -> Result<Self, String> {
        let mut file = |name| options.take(name).map(PathBuf::from);
        let authority = file("ca");
        let identity = match (file("cert"), file("key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("`cert` and `key` belong together".to_owned()),
        };
        let tls = Self { authority, identity };
        tls.certificates()?;
        Ok(tls)
    }

    /// What the files hold now, or which of them is of no use and why.
    pub(in crate::store::redis) fn certificates(&self) -> Result<TlsCertificates, String> {
        let client_tls = match &self.identity {
            Some((certificate, key)) => Some(ClientTlsConfig {
                client_cert: certificates(certificate)?,
                client_key: private_key(key)?,
            }),
            None => None,
        };
        let root_cert = self.authority.as_deref().map(certificates).transpose()?;
        Ok(TlsCertificates { client_tls, root_cert })
    }
}

fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    let pem = content(path)?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err(format!("{} holds no certificate (PEM)", path.display())),
    }
}

fn private_key(path: &Path) -> Result<Vec<u8>, String> {
    let pem = content(path)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(pem),
        Err(_) => Err(format!("{} holds no private key (PEM, not encrypted)", path.display())),
    }
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}
