//! Why a command was turned down with nothing changed.

use std::time::Duration;

use crate::gpu::{GpuIndex, GpuRef, Inventory};
use crate::ids::LeaseId;
use crate::request::Wants;

/// A command that can never succeed as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pool has not been told which GPUs it has.
    #[error("the pool does not know its GPUs yet")]
    NoInventory,
    /// A GPU was named that the pool does not have.
    #[error("there is no GPU {asked} in this pool, which has {inventory}")]
    UnknownGpu {
        /// What was asked for.
        asked: GpuRef,
        /// What there is.
        inventory: Inventory,
    },
    /// More GPUs were asked for than the pool has.
    #[error("the pool cannot lend {wants}: it has {inventory}")]
    TooMany {
        /// What was asked for.
        wants: Wants,
        /// What there is.
        inventory: Inventory,
    },
    /// No GPU was asked for.
    #[error("a request names at least one GPU")]
    NothingAsked,
    /// The request was made inside a lease and could only be met when that lease ends.
    #[error("the request would wait for its own lease {lease_id} on GPU {gpu}")]
    SelfWait {
        /// The lease that it was made in.
        lease_id: LeaseId,
        /// A GPU of that lease.
        gpu: GpuIndex,
    },
    /// The store has come back, may have forgotten leases, and nobody wants to wait until
    /// they are over.
    #[error(
        "the store was restarted or replaced and may have forgotten leases; nothing is lent for another {} s",
        left.as_secs_f64().ceil()
    )]
    Closed {
        /// Until the last of them is over.
        left: Duration,
    },
    /// A pool without GPUs was configured.
    #[error("a pool needs at least one GPU")]
    EmptyInventory,
}
