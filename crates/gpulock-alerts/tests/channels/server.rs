//! A small HTTP server that does what a test wants, also what no good server does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Url;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// Listens on a free port of 127.0.0.1 until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Such as `POST`.
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names are in small letters.
    pub(crate) headers: Vec<(String, String)>,
    /// What it holds.
    pub(crate) body: Vec<u8>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// An answer as it should be.
    Whole { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// An answer whose body ends in the middle, and the connection with it.
    Cut { status: u16, body: String },
    /// An answer whose body stops in the middle, and nothing more comes.
    Stuck { status: u16, body: String },
    /// No answer, on a connection that stays open.
    Silence,
    /// These bytes, whatever they are, and the end.
    Raw(Vec<u8>),
}

type Answerer = dyn Fn(&Received) -> Reply + Send + Sync;

struct Shared {
    answer: Box<Answerer>,
    connections: AtomicUsize,
    received: Mutex<Vec<Received>>,
}

impl Server {
    /// Answers every request as `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(answer), None).await
    }

    /// The same with TLS. Beside the file of the authority stand `server.crt` and `server.key`.
    pub(crate) async fn with_tls(
        ca: &Path,
        answer: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(crypto::ring::default_provider());
        let certificate = CertificateDer::from_pem_file(ca.with_file_name("server.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(ca.with_file_name("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        Self::listen(Box::new(answer), Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(answer: Box<Answerer>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let connections = AtomicUsize::new(0);
        let shared = Arc::new(Shared { answer, connections, received: Mutex::default() });
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, scheme, shared, task }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address of something on it, such as `/hook`.
    pub(crate) fn url(&self, path: &str) -> Url {
        self.url_by("127.0.0.1", path)
    }

    /// The same, by another name.
    pub(crate) fn url_by(&self, host: &str, path: &str) -> Url {
        format!("{}://{host}:{}{path}", self.scheme, self.port()).parse().unwrap()
    }

    /// How many connections were made, also those that asked nothing.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// What came so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The one request that came.
    #[track_caller]
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.into_iter().next().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Received {
    /// A header; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Reply {
    /// An answer as it should be.
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self::Whole { status, headers: Vec::new(), body: body.into() }
    }

    /// With one more header.
    pub(crate) fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Whole { status, mut headers, body } => {
                headers.push((name, value.into()));
                Self::Whole { status, headers, body }
            }
            other => other,
        }
    }
}

/// Asks again and again until `condition` holds, for a minute at most.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve(stream, tls.clone(), Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    match tls {
        None => converse(stream, &shared).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                converse(stream, &shared).await;
            }
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: &Shared) {
    let reply = match read(&mut stream).await {
        Some(received) => {
            let reply = (shared.answer)(&received);
            shared.received.lock().unwrap().push(received);
            reply
        }
        None => Reply::new(400, "this is no HTTP"),
    };
    let (bytes, then_waits) = match reply {
        Reply::Whole { status, headers, body } => {
            (whole(status, &headers, body.len(), &body), false)
        }
        Reply::Cut { status, body } => (half(status, &body), false),
        Reply::Stuck { status, body } => (half(status, &body), true),
        Reply::Silence => (Vec::new(), true),
        Reply::Raw(bytes) => (bytes, false),
    };
    // Whoever has asked may be gone already.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
    if then_waits {
        let _ = stream.read(&mut [0]).await;
    }
    let _ = stream.shutdown().await;
}

fn whole(status: u16, headers: &[(&str, String)], length: usize, body: &str) -> Vec<u8> {
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

fn half(status: u16, body: &str) -> Vec<u8> {
    whole(status, &[], body.len(), &body[..body.len() / 2])
}

/// A request with a `Content-Length`; nothing if the other end hangs up before its end, or does not
/// speak HTTP.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Received> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 || !bytes[0].is_ascii_uppercase() {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut received = Received { method, path, headers, body: bytes[head_end + 4..].to_vec() };
    let length: usize = received.header("content-length").parse().unwrap_or(0);
    while received.body.len() < length {
        if stream.read_buf(&mut received.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(received)
}
