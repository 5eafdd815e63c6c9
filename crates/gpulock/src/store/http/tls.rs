//! What an `https` connection needs besides the certificates of the system.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::{Certificate, ClientBuilder, Identity};

use crate::store::pem;

/// Names of files: they are read again for each client, because certificates are renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    /// The authorities that sign the server's certificate, instead of the system's.
    authority: Option<PathBuf>,
    /// Our own certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Takes the options, and reads once the files that they name.
    pub(super) fn read(options: &mut BTreeMap<&str, String>) -> Result<Self, String> {
        let mut file = |name| options.remove(name).map(PathBuf::from);
        let authority = file("ca");
        let identity = match (file("cert"), file("key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("`cert` and `key` belong together".to_owned()),
        };
        let tls = Self { authority, identity };
        tls.add_to(ClientBuilder::new()).map(drop)?;
        Ok(tls)
    }

    /// A client that trusts these authorities and shows this certificate.
    pub(super) fn add_to(&self, mut client: ClientBuilder) -> Result<ClientBuilder, String> {
        if let Some(path) = &self.authority {
            let pem = pem::certificates(path)?;
            let trusted = Certificate::from_pem_bundle(&pem)
                .map_err(|_| format!("{} holds no certificate (PEM)", path.display()))?;
            client = client.tls_certs_only(trusted);
        }
        if let Some((certificate, key)) = &self.identity {
            let mut both = pem::private_key(key)?;
            both.push(b'\n');
            both.extend(pem::certificates(certificate)?);
            let identity = Identity::from_pem(&both).map_err(|_| {
                format!("{} and {} do not fit", certificate.display(), key.display())
            })?;
            client = client.identity(identity);
        }
        Ok(client)
    }
}
