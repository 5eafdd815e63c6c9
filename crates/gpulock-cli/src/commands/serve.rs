//! `gpulock serve`.

use crate::args::{Cli, Serve};
use crate::daemon;
use crate::exit::{Code, Failure};
use crate::session::Session;

/// Runs the daemon until it is told to end.
pub(crate) fn serve(what: &Serve, cli: &Cli, session: &Session) -> Result<Code, Failure> {
    // One request that meets a fault must not end the daemon for all others: it is answered with
    // a problem, and the log says more.
    std::panic::set_hook(Box::new(|panic| tracing::error!("a fault of gpulock itself: {panic}")));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Code::Internal, format!("the daemon cannot be started: {error}"))
    })?;
    let outcome = runtime.block_on(daemon::serve(what, cli, session));
    // A store that hangs must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}
