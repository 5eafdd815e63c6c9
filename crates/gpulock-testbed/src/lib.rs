//! Private servers, faults and networks for gpulock's own tests and benchmarks.
//!
//! Everything here blocks, needs no async runtime, and dies with the process that started it.
//! Where a program or a right is missing, it panics with one sentence that says what to do.
//!
//! - [`RedisServer`]: a real `redis-server` on a free port and on a socket, to be killed, paused
//!   and started again.
//! - [`FaultProxy`]: stands in front of a server and delays, swallows or breaks what passes.
//! - [`Sentinels`]: a master, its replicas, and three sentinels that replace a dead master.
//! - [`wait_until`]: waits for a condition, never for a time.

mod condition;
mod fault_proxy;
mod ports;
mod process;
mod redis_server;
mod sentinels;

pub use condition::wait_until;
pub use fault_proxy::FaultProxy;
pub use redis_server::RedisServer;
pub use sentinels::Sentinels;
