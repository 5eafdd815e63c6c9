//! `gpulock release`: ask to stop, or take away. Each names exactly one lease, by
//! id and token, and changes nothing if that lease is no longer the current one.

use gpulock::core::{GpuRef, LeaseId, LeaseRef, LockKey, SeizeMode, Token};
use gpulock::{Client, LeaseStatus, PoolStatus};

use crate::args::Release;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

use super::verify::of_environment;

/// Ends a lease, or asks for its end.
pub(crate) async fn release(what: &Release, session: &Session) -> Result<Code, Failure> {
    let target = Target::parse(&what.target)?;
    let mut session_pool = session.pool.clone();
    if let Target::LockKey(key) = &target {
        session_pool = key.pool.clone();
    }
    let client = session.client_of(session.connect()?, session_pool)?;
    let status = client.status().await?;
    let lease = target.find(&status)?;
    let named = LeaseRef { lease_id: lease.lease_id, token: Token::from_value(lease.token) };
    let holder = format!("{} (pid {} on {})", lease.task, shown(lease.pid), lease.host);
    let reason = what.reason.as_deref().unwrap_or_default();
    let (current, done) = if what.ask {
        (client.ask_to_stop(named, reason).await?, format!("asked {holder} to stop"))
    } else if what.force {
        let mode = match what.ignore_processes {
            true => SeizeMode::IgnoreProcesses,
            false => SeizeMode::Drain,
        };
        (
            client.seize(named, reason, mode).await?,
            format!("took lease {} away from {holder}", lease.lease_id),
        )
    } else {
        return Err(not_given_back(what, named, &holder));
    };
    if !current {
        return Err(Failure::new(
            Code::Lost,
            format!("lease {} of {holder} had already ended; nothing was changed", lease.lease_id),
        ));
    }
    output::data(&done);
    tell_if_draining(&client, named).await
}

/// A lease that `gpulock run` holds ends with its command: while a process of it lives, the
/// GPU is not free.
fn not_given_back(what: &Release, named: LeaseRef, holder: &str) -> Failure {
    let message = match of_environment() == Some(named) {
        true => format!("{} goes back when this command ends, and not before", what.target),
        false => format!("{} is held by {holder}, and is not yours to give back", what.target),
    };
    Failure::new(Code::NotAllowed, message).hint(
        "--ask --reason TEXT asks the holder to stop; --force --reason TEXT takes the lease away",
    )
}

/// A lease that was taken away may leave processes behind, for which the GPU waits.
async fn tell_if_draining(client: &Client, named: LeaseRef) -> Result<Code, Failure> {
    let status = client.status().await?;
    let draining = status.leases.iter().find(|lease| {
        lease.lease_id == named.lease_id && lease.state == gpulock::LeaseStateName::Draining
    });
    if let Some(lease) = draining {
        output::notice(&format!(
            "its GPU goes on when its processes are gone (pid {}); --force --ignore-processes does not wait for them",
            shown(lease.pid)
        ));
    }
    Ok(Code::Ok)
}

fn shown(pid: Option<u32>) -> String {
    pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}

/// What the user named.
enum Target {
    LockKey(LockKey),
    Lease(LeaseId),
}

impl Target {
    fn parse(text: &str) -> Result<Self, Failure> {
        if let Ok(lease_id) = text.parse() {
            return Ok(Self::Lease(lease_id));
        }
        text.parse().map(Self::LockKey).map_err(|_| {
            Failure::new(Code::Usage, format!("{text:?} is neither a lock key nor a lease id"))
                .hint("lock keys look like gpu_lock:0 or gpu_lock:POOL/0; `gpulock status --json` shows lease ids")
        })
    }

    fn find<'a>(&self, status: &'a PoolStatus) -> Result<&'a LeaseStatus, Failure> {
        let found = match self {
            Self::Lease(lease_id) => status.leases.iter().find(|lease| lease.lease_id == *lease_id),
            Self::LockKey(key) => {
                let gpu = status.gpus.iter().find(|gpu| match &key.gpu {
                    GpuRef::Index(index) => gpu.id == *index,
                    GpuRef::Uuid(uuid) => gpu.uuid.as_ref() == Some(uuid),
                });
                let gpu = gpu.ok_or_else(|| {
                    Failure::new(
                        Code::Usage,
                        format!("there is no GPU {} in pool {}", key.gpu, status.name),
                    )
                    .hint("`gpulock status` lists the GPUs")
                })?;
                let keeper = gpu.lease_id;
                status.leases.iter().find(|lease| Some(lease.lease_id) == keeper)
            }
        };
        found.ok_or_else(|| {
            let what = match self {
                Self::Lease(lease_id) => {
                    format!("there is no lease {lease_id} in pool {}", status.name)
                }
                Self::LockKey(key) => format!("nobody holds {key}"),
            };
            Failure::new(Code::Lost, what).hint("`gpulock status` shows who holds what")
        })
    }
}
