//! The rules of gpulock: who gets a GPU, in which order, for how long, and what happens
//! when a holder dies.
//!
//! [`Pool`] is the whole state of the GPUs that are decided together, and
//! [`Pool::step`] is the only way to change it: a [`Command`] and the store's time go in,
//! a [`Step`] with the reply, the [`Event`]s, the [`Changes`] to write and the [`Wake`]s to
//! send comes out. There is no clock, no randomness and no I/O in this crate, so the very
//! rules that run on every store are also the ones that are model-checked
//! (`tests/rules/model.rs`), driven by random commands (`tests/rules/properties.rs`) and
//! told as stories (`tests/rules/scenarios.rs`).

#![forbid(unsafe_code)]

pub mod alert;
mod command;
mod event;
mod gpu;
mod hand_out;
pub mod health;
mod histogram;
mod ids;
pub mod invariants;
mod lease;
mod names;
mod overdue;
mod owner;
mod pool;
mod primitives;
mod queue;
mod record;
mod refusal;
mod request;
mod step;
mod task;
mod time;
mod turn;

pub use command::{CancelReason, Command, Evidence, Incident, Raised, Renewal, SeizeMode, Subject};
pub use event::{Counters, Event, Party, Recoveries, What};
pub use gpu::{Gpu, GpuIndex, GpuRef, Inventory, InventorySource};
pub use histogram::Histogram;
pub use ids::{Channel, LeaseId, LeaseRef, Token};
pub use lease::{Cause, Ending, Lease, Phase, Progress, StopRequest, Term};
pub use names::{InvalidName, LockKey, PoolName, TaskName};
pub use overdue::{Level, Levels, Watch};
pub use owner::{OwnProcess, Owner, Process, ProcessGroup, Sight};
pub use pool::{Ledger, Pool, Settings};
pub use queue::{LOOK_AHEAD, Priority, Waiter};
pub use record::Record;
pub use refusal::Refusal;
pub use request::{Request, Wants, Wish};
pub use step::{Changes, Parts, Renewed, Reply, Step, Wake, Why};
pub use task::{TaskBeat, TaskRecord, TaskSign, TaskStatus};
pub use time::Time;
