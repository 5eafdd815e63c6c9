//! What a TLS connection needs besides the certificates of the system.

use std::path::PathBuf;

use redis::{ClientTlsConfig, TlsCertificates};

use super::options::Options;
use crate::store::pem;

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
                client_cert: pem::certificates(certificate)?,
                client_key: pem::private_key(key)?,
            }),
            None => None,
        };
        let root_cert = self.authority.as_deref().map(pem::certificates).transpose()?;
        Ok(TlsCertificates { client_tls, root_cert })
    }
}
