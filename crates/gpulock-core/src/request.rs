//! What a client asks for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gpu::{GpuIndex, GpuRef, Inventory};
use crate::ids::{Channel, LeaseId};
use crate::lease::Term;
use crate::names::TaskName;
use crate::owner::Owner;
use crate::queue::Priority;
use crate::refusal::Refusal;
use std::time::Duration;

/// A wish for GPUs: everything is granted at once or nothing is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The id that the lease will have. Asking again with the same id is safe.
    pub lease_id: LeaseId,
    /// What the work is called.
    pub task: TaskName,
    /// Who asks.
    pub owner: Owner,
    /// Which GPUs, as the user named them.
    pub wish: Wish,
    /// Who goes first.
    pub priority: Priority,
    /// How long the lease lives without a heartbeat.
    pub term: Term,
    /// The work will run in a process group of its own, which `claim` names. Until then
    /// nothing uses the GPU, so a grant that is never claimed frees it at once.
    pub supervised: bool,
    /// How long the waiter may go unseen before it drops out of the queue. `None`: it does
    /// not queue at all and is told `busy`.
    pub patience: Option<Duration>,
    /// The asker does not stay: it comes back within `patience`, perhaps as another process.
    /// Its place in the queue is kept until then, and so is a grant.
    pub comes_back: bool,
    /// Where the waiter listens for its grant and the holder for a request to stop.
    pub channel: Option<Channel>,
    /// How often the asker has looked again because nobody woke it.
    pub polls: u32,
    /// Leases inside which this request is made (`gpulock run` inside `gpulock run`): it
    /// must never wait for one of them.
    pub inside: Vec<LeaseId>,
}

/// GPUs as a user names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Exactly these.
    Named(Vec<GpuRef>),
    /// Any so many.
    Any(u32),
}

/// GPUs as the pool counts them: a [`Wish`] after it was held against the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Wants {
    /// Exactly these, in rising order.
    These(Vec<GpuIndex>),
    /// Any so many.
    Any(u32),
}

impl Wish {
    /// What the wish means in a pool with these cards.
    ///
    /// # Errors
    /// A refusal that names the card that is not there, or says how many there are.
    pub fn resolve(&self, inventory: &Inventory) -> Result<Wants, Refusal> {
        match self {
            Self::Any(0) => Err(Refusal::NothingAsked),
            Self::Any(count) => Ok(Wants::Any(*count)),
            Self::Named(names) => {
                let mut found = Vec::with_capacity(names.len());
                for name in names {
                    let gpu = inventory.find(name).ok_or_else(|| Refusal::UnknownGpu {
                        asked: name.clone(),
                        inventory: inventory.clone(),
                    })?;
                    found.push(gpu.index);
                }
                found.sort_unstable();
                found.dedup();
                match found.is_empty() {
                    true => Err(Refusal::NothingAsked),
                    false => Ok(Wants::These(found)),
                }
            }
        }
        .and_then(|wants| match wants.fits(inventory) {
            true => Ok(wants),
            false => Err(Refusal::TooMany { wants, inventory: inventory.clone() }),
        })
    }
}

impl Wants {
    /// Whether a pool with these cards could ever meet it.
    pub fn fits(&self, inventory: &Inventory) -> bool {
        match self {
            Self::These(gpus) => {
                gpus.iter().all(|gpu| inventory.find(&GpuRef::Index(*gpu)).is_some())
            }
            Self::Any(count) => *count as usize <= inventory.gpus.len(),
        }
    }

    /// Which line this request stands in. Requests of different lines want different
    /// cards; the rules look at the first few of every line.
    pub fn lane(&self) -> String {
        match self {
            Self::Any(_) => "any".to_owned(),
            Self::These(gpus) => gpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

impl fmt::Display for Wants {
    /// `GPU 0`, `GPUs 0 and 1`, `any GPU`, `any 2 GPUs`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(1) => f.write_str("any GPU"),
            Self::Any(count) => write!(f, "any {count} GPUs"),
            Self::These(gpus) => match gpus.as_slice() {
                [one] => write!(f, "GPU {one}"),
                [first, rest @ ..] => {
                    write!(f, "GPUs {first}")?;
                    for (place, gpu) in rest.iter().enumerate() {
                        let joint = if place + 1 == rest.len() { " and " } else { ", " };
                        write!(f, "{joint}{gpu}")?;
                    }
                    Ok(())
                }
                [] => f.write_str("no GPU"),
            },
        }
    }
}
