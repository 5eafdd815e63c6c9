//! TLS: which servers are trusted, and which clients.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::serve::Listener;
use gpulock::core::PoolName;
use gpulock::store::memory::MemoryStore;
use gpulock::store::{Store, StoreError};
use gpulock_testbed::RedisServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

use super::served::{Served, bare, block_on, view};

/// Takes connections with TLS, one after the other.
struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            if let Ok((stream, peer)) = self.tcp.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A server with TLS, and the files of an authority that has signed its certificate.
struct Secured {
    /// Where the certificates are.
    files: RedisServer,
    port: u16,
    runtime: Option<Runtime>,
}

impl Secured {
    /// `certified`: only clients with a certificate are taken.
    fn start(certified: bool) -> Self {
        let files = RedisServer::with_tls();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        let port = tcp.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config(&files.ca_file(), certified)));
        let app = bare(Arc::new(MemoryStore::new()));
        runtime.spawn(async move {
            let tcp = TcpListener::from_std(tcp).unwrap();
            axum::serve(TlsListener { tcp, acceptor }, app).await
        });
        Self { files, port, runtime: Some(runtime) }
    }

    fn url(&self, options: &str) -> String {
        format!("https://localhost:{}{options}", self.port)
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

fn config(ca: &Path, certified: bool) -> ServerConfig {
    let provider = Arc::new(crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_file(ca.with_file_name("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(ca.with_file_name("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider);
    let config = match certified {
        true => config.with_client_cert_verifier(verifier.build().unwrap()),
        false => config.with_no_client_auth(),
    };
    config.with_single_cert(vec![certificate], key).unwrap()
}

fn said(url: &str) -> StoreError {
    let store = gpulock::connect(url).unwrap();
    block_on(store.read(&PoolName::default(), None)).unwrap_err()
}

#[track_caller]
fn refused(url: &str, words: &str) {
    let error = said(url);
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn the_authority_that_the_url_names_is_trusted_and_no_other() {
    let secured = Secured::start(false);
    let ca = secured.files.ca_file();
    let store = gpulock::connect(&secured.url(&format!("?ca={}", ca.display()))).unwrap();
    block_on(async {
        view(&store).await;
        store.open_mailbox().await.unwrap();
    });
    refused(&secured.url(""), "signed by nobody trusted here");
    let other = RedisServer::with_tls().ca_file();
    // It is read when the store is opened, and again for each client.
    assert!(matches!(
        gpulock::connect(&secured.url(&format!("?ca={}", other.display()))),
        Err(StoreError::BadUrl { .. })
    ));
    let other = RedisServer::with_tls();
    let options = format!("?ca={}", other.ca_file().display());
    refused(&secured.url(&options), "signed by nobody trusted here");
}

#[test]
fn a_client_shows_its_certificate() {
    let secured = Secured::start(true);
    let ca = secured.files.ca_file();
    let (certificate, key) = (secured.files.client_certificate(), secured.files.client_key());
    let (ca, certificate, key) = (ca.display(), certificate.display(), key.display());
    let with = secured.url(&format!("?ca={ca}&cert={certificate}&key={key}"));
    let store: Arc<dyn Store> = gpulock::connect(&with).unwrap();
    block_on(view(&store));
    refused(&secured.url(&format!("?ca={ca}")), "refuses TLS with us");
}

#[test]
fn who_speaks_tls_and_who_does_not_is_told_apart() {
    let secured = Secured::start(false);
    let plain = Served::lending(Arc::new(MemoryStore::new()));
    refused(&format!("https://{}", plain.address), "without TLS write http://");
    let error = said(&format!("http://localhost:{}", secured.port));
    assert!(
        error.to_string().contains("cannot be reached") || error.to_string().contains("https://"),
        "{error}"
    );
}
