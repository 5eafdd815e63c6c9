//! `gpulock run`: wait for GPUs, run a command on them, and make sure that neither outlives
//! the other.
//!
//! The command runs in a process group of its own, and does not begin before the store
//! knows that group: whatever happens to this process then, the next one in line can tell
//! what still uses the GPU, and stop it. See `run/child.rs` for how.

mod child;
mod lookup;
mod progress;
mod signals;
mod supervise;
mod terminal;
mod unconfirmed;
mod waiting;

use std::ffi::OsString;
use std::time::Duration;

use gpulock::config::OnStoreError;
use gpulock::core::{TaskName, Wish};
use gpulock::{Client, Lease};

use crate::args::Run;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

pub(crate) use self::child::Child;
use self::child::Orders;
use self::signals::Signals;
use self::supervise::Supervisor;
use self::unconfirmed::Unconfirmed;

/// How long to stay for what is still to be said to the store.
const PARTING: Duration = Duration::from_secs(2);

/// Runs a command under a lease; `child` will become it.
pub(crate) async fn run(what: &Run, child: Child, session: &Session) -> Result<Code, Failure> {
    // Before a long wait, not after it.
    let program = lookup::find(&what.command[0])?;
    let orders =
        Orders { program: &program, command: &what.command, environment: session.flags.clone() };
    let signals = Signals::listen()?;
    let on_store_error = session.config().gpu_lock.on_store_error;
    let attempt = async {
        let store = session.connect()?;
        let client = session.client(store)?;
        let lease = obtain(what, &client, &signals).await?;
        Ok::<_, Failure>((client, lease))
    };
    match attempt.await {
        Ok((client, lease)) => {
            let unconfirmed = Unconfirmed::of(&lease, &client, session);
            let supervisor = Supervisor::new(lease, child, session, signals);
            let outcome = supervisor.run(orders, unconfirmed).await;
            client.settle(PARTING).await;
            // This process ends now: what it has open, the kernel closes faster.
            std::mem::forget(client);
            outcome
        }
        Err(failure)
            if failure.code == Code::Store && on_store_error == OnStoreError::RunUnlocked =>
        {
            output::warning(&format!(
                "{}; the command runs without a lease, because on_store_error is run_unlocked",
                failure.message
            ));
            child.run_unguarded(&orders, signals).await
        }
        Err(failure) => Err(failure),
    }
}

/// Waits for the lease, with a line that says for whom.
async fn obtain(what: &Run, client: &Client, signals: &Signals) -> Result<Lease, Failure> {
    let mut request = client.request(task_name(what)).priority(what.priority.into()).supervised();
    request = match wish(what) {
        Wish::Any(count) => request.any(count),
        Wish::Named(gpus) => request.named(gpus),
    };
    request = match what.wait {
        Some(span) => request.max_wait(span),
        None => request,
    };
    if what.no_wait {
        request = request.no_wait();
    }
    let acquiring = request.start()?;
    match waiting::wait(acquiring, signals).await {
        Ok(lease) => Ok(lease),
        Err(waiting::Ended::Failed(error)) => Err(error.into()),
        Err(waiting::Ended::BySignal(signal)) => {
            client.settle(PARTING).await;
            Err(Failure::new(Code::Command(128 + signal), "stopped while waiting"))
        }
    }
}

fn wish(what: &Run) -> Wish {
    match what.gpu.is_empty() {
        true => Wish::Any(what.gpus.unwrap_or(1)),
        false => Wish::Named(what.gpu.clone()),
    }
}

/// The name of the work, or of the command without its folder.
fn task_name(what: &Run) -> TaskName {
    let base = |command: &OsString| {
        let name = std::path::Path::new(command).file_name().unwrap_or(command);
        name.to_string_lossy().chars().filter(|c| !c.is_control()).take(64).collect::<String>()
    };
    let named = what.task.clone().or_else(|| base(&what.command[0]).parse().ok());
    named.unwrap_or_else(unnamed)
}

fn unnamed() -> TaskName {
    "command".parse().unwrap_or_else(|_| unreachable!("a constant name is a name"))
}
