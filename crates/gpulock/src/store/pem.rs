//! Files with certificates and keys, which the URLs of stores name.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The content of a file with certificates, or why it is of no use.
pub(super) fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    let pem = content(path)?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err(format!("{} holds no certificate (PEM)", path.display())),
    }
}

/// The content of a file with a private key, or why it is of no use.
pub(super) fn private_key(path: &Path) -> Result<Vec<u8>, String> {
    let pem = content(path)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(pem),
        Err(_) => Err(format!("{} holds no private key (PEM, not encrypted)", path.display())),
    }
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}
