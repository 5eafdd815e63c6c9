//! A running server with its log, and a client that sends bytes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gpulock::config::{Config, Server, Sources};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use super::sample::{self, Sample};
use crate::daemon::application::application;
use crate::daemon::guard::{Guard, Policy};
use crate::daemon::health::{self, Ask, Readiness};
use crate::daemon::server::{Limits, serve};

/// Nothing here takes nearly so long.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) const READ: &str = "canary-read-token-01";
pub(super) const OPERATE: &str = "canary-operate-token";

/// A server with sample routes on a port of its own.
pub(super) struct House {
    pub(super) address: SocketAddr,
    pub(super) guard: Guard,
    pub(super) sample: Sample,
    pub(super) shutdown: CancellationToken,
    pub(super) log: Log,
    thread: Option<JoinHandle<()>>,
}

/// What one request got back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

/// The lines of the server's log.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl House {
    /// Without tokens, with the usual limits.
    pub(super) fn open() -> Self {
        Self::start(Limits::default(), &[])
    }

    /// With one token of each role.
    pub(super) fn locked() -> Self {
        Self::start(Limits::default(), &[("server.tokens", &tokens())])
    }

    pub(super) fn start(limits: Limits, settings: &[(&str, &str)]) -> Self {
        Self::with_readiness(limits, settings, Arc::new(|| Box::pin(async { Ok(()) })))
    }

    pub(super) fn with_readiness(limits: Limits, settings: &[(&str, &str)], ask: Ask) -> Self {
        let guard = Guard::new(policy(settings));
        let (sample, log, shutdown) = (Sample::default(), Log::default(), CancellationToken::new());
        let sample = Sample { shutdown: shutdown.clone(), ..sample };
        let routes = health::routes().with_state(Readiness::new(ask));
        let routes = routes.merge(sample::routes().with_state(sample.clone()));
        let app = application(routes.into(), guard.clone(), &limits);
        let (tell, told) = mpsc::channel();
        let (token, own_log) = (shutdown.clone(), log.clone());
        let thread = thread::spawn(move || {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(own_log)
                .finish();
            let _subscriber = tracing::subscriber::set_default(subscriber);
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, app, limits, token).await;
            });
        });
        let address = told.recv().unwrap();
        Self { address, guard, sample, shutdown, log, thread: Some(thread) }
    }

    /// A connection that has sent these bytes.
    pub(super) fn connect(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// Sends a request with a good `Host` and reads all that comes.
    pub(super) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        let mut lines = vec![
            format!("{method} {path} HTTP/1.1"),
            format!("Host: {}", self.address),
            "Connection: close".to_owned(),
        ];
        lines.extend(headers.iter().map(ToString::to_string));
        if !body.is_empty() {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        self.raw(&format!("{}\r\n\r\n{body}", lines.join("\r\n")))
    }

    pub(super) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "")
    }

    /// Sends these bytes and reads all that comes.
    pub(super) fn raw(&self, request: &str) -> Reply {
        Reply::read(&mut self.connect(request.as_bytes()))
    }

    pub(super) fn changes(&self) -> usize {
        self.sample.changes.load(Ordering::SeqCst)
    }

    /// Until so many requests are being worked on.
    pub(super) fn wait_for_running(&self, count: usize) {
        wait_until(|| self.sample.running.load(Ordering::SeqCst) == count);
    }

    /// Until the server has ended by itself.
    pub(super) fn wait_for_end(&mut self) {
        wait_until(|| self.thread.as_ref().is_none_or(JoinHandle::is_finished));
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Reply {
    /// Reads until the server closes.
    pub(super) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A reset after the answer loses nothing of it.
        if let Err(error) = stream.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{bytes:?}");
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self { status: status.unwrap_or(0), head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it is a whole problem document.
    pub(super) fn expect_problem(self, status: u16, name: &str) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let document = self.json();
        assert_eq!(document["type"], format!("/problems/{name}"), "{self:?}");
        assert_eq!(document["status"], status, "{self:?}");
        for member in ["title", "detail", "hint"] {
            assert!(document[member].as_str().is_some_and(|text| text.len() > 8), "{self:?}");
        }
        self
    }
}

impl Log {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

pub(super) fn tokens() -> String {
    format!("read:{READ},operate:{OPERATE}")
}

pub(super) fn configured(settings: &[(&str, &str)]) -> Server {
    let flags = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let sources = Sources { flags: flags.collect(), ..Sources::default() };
    Config::load(&sources).unwrap().config.server
}

pub(super) fn policy(settings: &[(&str, &str)]) -> Policy {
    Policy::load(&configured(settings)).unwrap().0
}

/// The header that shows a token.
pub(super) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

pub(super) fn wait_until(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "it does not happen");
        thread::sleep(Duration::from_millis(5));
    }
}
