//! Certificates of an authority of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{demand, run};

/// An authority, and what it has signed: a certificate for a server called localhost or 127.0.0.1,
/// and one for a client.
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Writes them into `folder`. They are good for two days.
    ///
    /// # Panics
    ///
    /// If `openssl` is missing or fails.
    pub fn create(folder: &Path) -> Self {
        demand("openssl", "openssl");
        let created = Self { folder: folder.to_owned() };
        created.sign("ca", &["basicConstraints=critical,CA:true", "keyUsage=keyCertSign"]);
        created.sign("server", &["subjectAltName=DNS:localhost,IP:127.0.0.1"]);
        created.sign("client", &["extendedKeyUsage=clientAuth"]);
        created
    }

    /// The certificate of `ca`, `server` or `client`, as PEM.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    /// The key of `ca`, `server` or `client`, as PEM.
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// Makes a key and a certificate for it. The authority signs its own.
    fn sign(&self, name: &str, extensions: &[&str]) {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-days", "2", "-subj", &format!("/CN=gpulock test {name}")])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .arg("-keyout")
            .arg(self.key(name))
            .arg("-out")
            .arg(self.certificate(name));
        if name != "ca" {
            openssl.arg("-CA").arg(self.certificate("ca")).arg("-CAkey").arg(self.key("ca"));
            // Without this openssl makes every certificate an authority.
            openssl.args(["-addext", "basicConstraints=critical,CA:false"]);
        }
        for extension in extensions {
            openssl.args(["-addext", extension]);
        }
        run(&mut openssl);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::RedisServer;

    fn tls_cli(server: &RedisServer) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-e", "--no-auth-warning", "--tls", "-u", &server.tls_url()]);
        command.arg("--cacert").arg(server.ca_file());
        command
    }

    #[test]
    fn the_authority_vouches_for_the_server() {
        let server = RedisServer::with_tls();
        assert_eq!(run(tls_cli(&server).arg("PING")), "PONG");
        let other = RedisServer::with_tls();
        let trusts_another =
            tls_cli(&server).arg("--cacert").arg(other.ca_file()).arg("PING").output();
        assert!(trusts_another.is_ok_and(|output| !output.status.success()));
    }

    #[test]
    fn a_server_can_want_a_certificate_of_its_clients() {
        let server = RedisServer::with_tls_for_certified_clients();
        let stranger = tls_cli(&server).arg("PING").output();
        assert!(stranger.is_ok_and(|output| !output.status.success()));
        let mut client = tls_cli(&server);
        client.arg("--cert").arg(server.client_certificate());
        client.arg("--key").arg(server.client_key());
        assert_eq!(run(client.arg("PING")), "PONG");
    }
}
