//! One connection: how long each part of a request may take, and how it ends.
//!
//! hyper's own limit for headers also runs while a connection is idle, so a watch of our own
//! follows what the client is doing.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use futures_util::future::BoxFuture;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::problem::{Kind, MEDIA_TYPE};
use super::server::Limits;
use super::socket::Socket;

/// How long, and for how many bytes, a client is listened to that still sends after its last
/// answer: closing earlier would take the answer away from it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// hyper takes no smaller buffer.
const SMALLEST_BUFFER: usize = 8192;

/// What all connections share.
#[derive(Clone)]
pub(super) struct Connection {
    app: Router,
    limits: Limits,
    shutdown: CancellationToken,
    cut: CancellationToken,
}

/// What the client is doing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// It has sent nothing since then.
    Idle(Instant),
    /// It has been sending a request's headers since then.
    Head(Instant),
    /// It has sent them and waits for an answer, or takes it.
    Busy,
}

impl Connection {
    /// After `shutdown` connections end with their request, after `cut` at once.
    pub(super) fn new(
        app: Router,
        limits: Limits,
        shutdown: CancellationToken,
        cut: CancellationToken,
    ) -> Self {
        Self { app, limits, shutdown, cut }
    }

    /// Answers the requests of one client until it goes away or takes too long.
    pub(super) async fn hold(self, stream: TcpStream, peer: SocketAddr) {
        let cut = self.cut.clone();
        tokio::select! {
            () = cut.cancelled() => {}
            () = self.answer(stream, peer) => {}
        }
    }

    async fn answer(self, stream: TcpStream, peer: SocketAddr) {
        // An answer that is delayed is not wrong.
        let _ = stream.set_nodelay(true);
        let Self { app, limits, shutdown, .. } = self;
        let (stage, mut watched) = watch::channel(Stage::Idle(Instant::now()));
        let stage = Arc::new(stage);
        let socket = Socket::new(stream, Arc::clone(&stage), limits.write_time);
        let mut connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_header_size(limits.head_bytes)
            .max_buf_size(limits.head_bytes.max(SMALLEST_BUFFER))
            .serve_connection(TokioIo::new(socket), Requests { app, peer, stage });
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = poll_fn(|context| connection.poll_without_shutdown(context)) => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "a connection ended early");
                    }
                    break;
                }
                () = expired(&mut watched, &limits) => {
                    tracing::debug!(%peer, "a client took too long");
                    return;
                }
                () = shutdown.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    if matches!(*watched.borrow(), Stage::Idle(_)) {
                        return;
                    }
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
        linger(connection.into_parts().io.into_inner().into_stream()).await;
    }
}

/// Tells a client that there is no place for it.
pub(super) async fn turn_away(stream: TcpStream) {
    let title = Kind::Unavailable.title();
    let body = serde_json::json!({
        "type": Kind::Unavailable.path(),
        "title": title,
        "status": Kind::Unavailable.status().as_u16(),
        "detail": "the server has as many connections as it takes",
        "hint": "close connections that are not needed, and ask again",
        "retry_after": 1,
    })
    .to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {MEDIA_TYPE}\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    );
    // The buffer of a new connection takes it whole; whoever cannot be told is only closed.
    if stream.writable().await.is_ok() && stream.try_write(answer.as_bytes()).is_ok() {
        linger(stream).await;
    }
}

/// Ends when the client has taken longer than it may for what it is doing.
async fn expired(stage: &mut watch::Receiver<Stage>, limits: &Limits) {
    loop {
        let deadline = match *stage.borrow_and_update() {
            Stage::Idle(since) => Some(since + limits.idle_time),
            Stage::Head(since) => Some(since + limits.head_time),
            Stage::Busy => None,
        };
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            changed = stage.changed() => if changed.is_err() { pending().await },
            () = over => return,
        }
    }
}

async fn linger(mut stream: TcpStream) {
    let taken = async {
        poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context)).await?;
        let (mut rest, mut left) = ([0; 4096], LINGER_BYTES);
        while left > 0 {
            stream.readable().await?;
            match stream.try_read(&mut rest) {
                Ok(0) => break,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok::<_, io::Error>(())
    };
    // However it ends, the connection is closed.
    let _ = timeout(LINGER, taken).await;
}

/// The routes, as hyper calls them.
struct Requests {
    app: Router,
    peer: SocketAddr,
    stage: Arc<watch::Sender<Stage>>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<WorkingBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let working = Working::begin(Arc::clone(&self.stage));
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let answer = self.app.clone().oneshot(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| WorkingBody { body, _working: working }))
        })
    }
}

/// As long as it lives, the server works on a request or sends its answer.
struct Working(Arc<watch::Sender<Stage>>);

impl Working {
    fn begin(stage: Arc<watch::Sender<Stage>>) -> Self {
        stage.send_replace(Stage::Busy);
        Self(stage)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.send_replace(Stage::Idle(Instant::now()));
    }
}

/// The body of an answer.
struct WorkingBody {
    body: Body,
    _working: Working,
}

impl HttpBody for WorkingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
