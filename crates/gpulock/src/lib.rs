//! Lends GPUs to tasks: one at a time or several, in a fair order, and takes them back when
//! a task ends, hangs or dies.
//!
//! ```
//! use gpulock::{Client, connect};
//!
//! # fn main() -> Result<(), gpulock::Error> {
//! let client = Client::builder(connect("memory:")?).build()?;
//! let lease = client.request("speech recognition".parse()?).acquire()?;
//! println!("working on GPU {} with token {}", lease.gpus()[0].index, lease.token());
//! lease.check()?; // fails once the lease is lost
//! drop(lease); // gives the GPU to the next in the queue
//! # Ok(())
//! # }
//! ```
//!
//! The rules live in [`gpulock_core`]; this crate waits, renews and retries on a
//! [`store`] that keeps the record.

#![forbid(unsafe_code)]

mod client;
mod clock;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connect;
pub mod critical;
mod direct;
mod engine;
mod error;
mod estimate;
mod gpus;
mod granting;
mod heartbeat;
mod incident;
mod journal;
mod lease;
mod legacy;
mod other_run;
mod patrol;
mod post;
pub mod process;
mod request;
mod status;
pub mod store;
mod stored;
mod tasks;
mod text;
mod wait;
mod withdrawal;
mod witness;

pub use client::{Client, ClientBuilder, Options};
pub use clock::BootTime;
pub use connect::{DefaultPlace, connect};
pub use error::{Duplicate, Error, Holder, NotAcquired, closed};
pub use estimate::expected_wait;
pub use gpulock_core as core;
pub use gpus::inventory;
pub use granting::Granting;
pub use heartbeat::{Health, LeaseState, Loss};
pub use lease::Lease;
pub use request::{Acquiring, Begun, RequestBuilder};
pub use status::{
    GpuState, GpuStatus, LeaseStateName, LeaseStatus, PoolStatus, WaiterStatus, WantsStatus,
};
pub use tasks::{KeptTask, LastWord, TaskHeartbeat};
pub use text::brief;
pub use wait::{Polling, WaitState};
