//! Private servers, faults and networks for gpulock's own tests and benchmarks.
//!
//! Everything here blocks, needs no async runtime, and dies with the process that started it.
//! Where a program or a right is missing, it panics with one sentence that says what to do.
//!
//! - [`RedisServer`]: a real `redis-server` on a free port and on a socket, to be killed, paused
//!   and started again; if asked, with TLS and certificates, or with a wall clock that can be set.
//! - [`FaultProxy`]: stands in front of a server and delays, swallows or breaks what passes.
//! - [`RedisCluster`]: three masters that share the keys, with or without replicas.
//! - [`Sentinels`]: a master, its replicas, and three sentinels that replace a dead master.
//! - [`TwoHosts`]: two machines in namespaces, with a network between them and a server.
//! - [`Certificates`]: an authority of the test's own, and what it has signed.
//! - [`wait_until`]: waits for a condition, never for a time.

mod certificates;
mod clock_shim;
mod condition;
mod fault_proxy;
mod ports;
mod process;
mod redis_cluster;
mod redis_server;
mod sentinels;
mod two_hosts;

pub use certificates::Certificates;
pub use condition::wait_until;
pub use fault_proxy::FaultProxy;
pub use ports::listen;
pub use redis_cluster::RedisCluster;
pub use redis_server::RedisServer;
pub use sentinels::Sentinels;
pub use two_hosts::{Host, TwoHosts};
