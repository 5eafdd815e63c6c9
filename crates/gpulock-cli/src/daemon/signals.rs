//! Signals: to end, and to read the configuration again.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::watchdog;
use crate::exit::{Code, Failure};

/// Cancels `shutdown` at the first SIGTERM or SIGINT. Returns also if somebody else does.
///
/// # Errors
/// If signals cannot be heard.
pub(crate) fn until_told_to_stop(
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()>, Failure> {
    let hear = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(Code::Internal, format!("signals cannot be heard: {error}"))
        })
    };
    let (mut term, mut int) = (hear(SignalKind::terminate())?, hear(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("asked to end by SIGTERM"),
            _ = int.recv() => tracing::info!("asked to end by SIGINT"),
            () = shutdown.cancelled() => {}
        }
        watchdog::tell_stopping();
        shutdown.cancel();
    })
}

/// The SIGHUPs from now on. Before, one would end the daemon, so this comes before anybody is
/// told that it is there; `None` if they cannot be heard.
pub(crate) fn hang_ups() -> Option<Signal> {
    signal(SignalKind::hangup()).ok()
}
