//! The HTTP server itself: accepts connections up to a limit, and stops without cutting what
//! is running.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, Connection};

/// How many of those who find no place are told so at the same time; others are only closed.
const MOST_TURNED_AWAY: usize = 64;

/// Descriptors besides those of connections.
const OTHER_DESCRIPTORS: u64 = 256;

/// How long a pause is if the system has no descriptor for another connection.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// What one client may cost.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// From the first byte of a request to the end of its headers.
    pub(crate) head_time: Duration,
    /// From an answer, or from the connection's beginning, to the next request.
    pub(crate) idle_time: Duration,
    /// For a whole body.
    pub(crate) body_time: Duration,
    /// For which a client may take nothing of an answer.
    pub(crate) write_time: Duration,
    /// For running requests when the server stops.
    pub(crate) stop_time: Duration,
    /// Request line and headers.
    pub(crate) head_bytes: usize,
    /// A body, unless the route says otherwise.
    pub(crate) body_bytes: usize,
    /// At the same time.
    pub(crate) connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            body_time: Duration::from_secs(10),
            write_time: Duration::from_secs(30),
            stop_time: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            body_bytes: 64 * 1024,
            connections: 1_024,
        }
    }
}

/// Serves until `shutdown`, then lets running requests end. Long streams watch `shutdown`
/// themselves; what still runs after `stop_time` is cut.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    make_descriptors(limits.connections);
    let cut = CancellationToken::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let turned_away = Arc::new(Semaphore::new(MOST_TURNED_AWAY));
    let stop_time = limits.stop_time;
    let connection = Connection::new(app, limits, shutdown.clone(), cut.clone());
    let tasks = TaskTracker::new();
    while let Some((stream, peer)) = next(&listener, &shutdown).await {
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let connection = connection.clone();
            tasks.spawn(async move {
                connection.hold(stream, peer).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&turned_away).try_acquire_owned() {
            tasks.spawn(async move {
                connection::turn_away(stream).await;
                drop(place);
            });
        }
    }
    drop(listener);
    tasks.close();
    if timeout(stop_time, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "the server stops and cuts what still runs");
        cut.cancel();
        tasks.wait().await;
    }
}

/// Shells and services often start with 1,024 descriptors, and the store needs some.
fn make_descriptors(connections: usize) {
    let needed = connections as u64 + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let possible = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), ..limit });
    if raised.is_err() || possible < needed {
        tracing::warn!(
            needed,
            "the limit of open files is too low for {connections} connections; \
             hint: set LimitNOFILE in the unit of the service, or `ulimit -n`"
        );
    }
}

async fn next(
    listener: &TcpListener,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, SocketAddr)> {
    let mut is_told = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(connection) => return Some(connection),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !is_told {
                    tracing::warn!(%error, "no connection can be accepted");
                    is_told = true;
                }
                sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}
