//! What can go wrong, by what it means for the caller.

use std::fmt::{self, Write as _};
use std::time::Duration;

use gpulock_core::{GpuIndex, InvalidName, Refusal};

use crate::store::StoreError;
use crate::text::brief;

/// Why a client did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not be used. Nothing runs unlocked because of that.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The request can never be met as it stands.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The GPUs were not free in time.
    #[error("{0}")]
    NotAcquired(Box<NotAcquired>),
    /// Another run of the same task holds or waits.
    #[error("{0}")]
    Duplicate(Box<Duplicate>),
    /// The lease is no longer the caller's.
    #[error("the lease is lost: {0}")]
    Lost(String),
    /// A name is not one.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The driver could not be asked which GPUs there are.
    #[error("the NVIDIA driver cannot be asked for its GPUs: {0}")]
    Driver(String),
    /// The wait was called off by the caller.
    #[error("the wait was called off")]
    CalledOff,
    /// Older workers keep their lock keys on Redis, and the store is not there.
    #[error("`compat.legacy_keys` is on, but only a store on Redis has lock keys of older workers")]
    NoLockKeys,
    /// This process could not start what the client needs.
    #[error("the client cannot be started: {0}")]
    Start(#[source] std::io::Error),
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Refused(refusal) => hint_for(refusal),
            Self::NotAcquired(_) => Some(
                "`gpulock status` shows who holds and who waits; wait longer with --wait"
                    .to_owned(),
            ),
            Self::Driver(_) => Some(
                "list the GPUs in config.yml (`gpus: [0, 1]`) to do without the driver".to_owned(),
            ),
            Self::Duplicate(_) => Some(
                "the task queue has delivered this task more than once; a longer visibility timeout avoids that".to_owned(),
            ),
            Self::NoLockKeys => Some(
                "name the Redis database of the older workers as `store`, or set `compat.legacy_keys` to false".to_owned(),
            ),
            Self::Lost(_) | Self::Name(_) | Self::CalledOff | Self::Start(_) => None,
        }
    }
}

fn hint_for(refusal: &Refusal) -> Option<String> {
    Some(match refusal {
        Refusal::UnknownGpu { .. } | Refusal::TooMany { .. } => {
            "`gpulock status` lists the GPUs; `gpulock doctor` asks the driver again".to_owned()
        }
        Refusal::SelfWait { .. } => {
            "work inside a lease may use its GPUs as they are; leave out the inner `gpulock run`"
                .to_owned()
        }
        Refusal::Closed { .. } => {
            "try again then; keep Redis's data over restarts (`appendonly yes`), or let requests wait with after_restart=wait in the store's URL".to_owned()
        }
        Refusal::NothingAsked => "ask for at least one GPU".to_owned(),
        Refusal::NoInventory | Refusal::EmptyInventory => {
            "list the GPUs in config.yml (`gpus: [0, 1]`) or leave `gpus: auto`".to_owned()
        }
    })
}

/// A request that was not met in time, and who was in its way.
#[derive(Clone, Debug)]
pub struct NotAcquired {
    /// What was asked for, for people: `GPU 0`, `any 2 GPUs`.
    pub wanted: String,
    /// How long it waited; `None` if it did not want to wait.
    pub waited: Option<Duration>,
    /// How many were before it in the queue.
    pub ahead: u64,
    /// Who held the GPUs.
    pub holders: Vec<Holder>,
    /// How long nothing is lent, because the store came back and may have forgotten leases.
    pub closed_for: Option<Duration>,
}

/// Another run of the same task, which is alive.
#[derive(Clone, Debug)]
pub struct Duplicate {
    /// Who it is.
    pub other: Holder,
    /// It still waits.
    pub waits: bool,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = if self.waits { "waits" } else { "runs" };
        write!(f, "another run of this task {does} already: {}", self.other)
    }
}

/// Somebody who holds GPUs, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// What its work is called.
    pub task: String,
    /// Where it runs.
    pub host: String,
    /// Its process; `None` if nobody can look at it.
    pub pid: Option<u32>,
    /// Its GPUs.
    pub gpus: Vec<GpuIndex>,
    /// For how long it has held them.
    pub held_for: Duration,
    /// Its lease is over, only its processes are not gone.
    pub draining: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = String::new();
        if let Some(pid) = self.pid {
            write!(place, "pid {pid} on ")?;
        }
        write!(f, "{} ({place}{}) for {}", self.task, self.host, brief(self.held_for))?;
        if self.draining {
            f.write_str(", whose lease is over but whose processes still run")?;
        }
        Ok(())
    }
}

/// Why nothing is lent although nobody holds it, for people.
pub fn closed(left: Duration) -> String {
    format!(
        "the store came back and may have forgotten leases, so nothing is lent for another {}",
        brief(left)
    )
}

impl fmt::Display for NotAcquired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.waited {
            Some(waited) => {
                write!(f, "{} did not become free within {}", self.wanted, brief(waited))?
            }
            None if self.wanted.ends_with('s') || self.wanted.contains(" and ") => {
                write!(f, "{} are not free", self.wanted)?;
            }
            None => write!(f, "{} is not free", self.wanted)?,
        }
        for (place, holder) in self.holders.iter().enumerate() {
            write!(f, "{}{holder}", if place == 0 { ": held by " } else { "; by " })?;
        }
        if let Some(left) = self.closed_for {
            write!(f, "; {}", closed(left))?;
        }
        match self.ahead {
            0 => Ok(()),
            ahead => write!(f, "; {ahead} ahead in the queue"),
        }
    }
}
