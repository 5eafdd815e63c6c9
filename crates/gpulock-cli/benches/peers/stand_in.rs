//! Waiters that only stand in the queue: no process, no task, no connection. So a queue of
//! ten thousand costs nothing but its record.

use std::sync::Arc;
use std::time::Duration;

use gpulock::core::{Command, LeaseId, PoolName, Priority, Reply, Request, Term, Wish};
use gpulock::store::{Store, Swapped, Write};

use crate::locks;

/// They neither drop out nor look again while the benchmark runs.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Puts waiters number `from..to` into the queue.
pub(crate) async fn join(store: &Arc<dyn Store>, pool: &PoolName, from: u128, to: u128) {
    for number in from..to {
        while !has_joined(store, pool, request(number)).await {}
    }
}

async fn has_joined(store: &Arc<dyn Store>, pool: &PoolName, request: Request) -> bool {
    let mut view = store.read(pool, None).await.unwrap();
    let step = view.pool.step(view.now, Command::Acquire(request)).unwrap();
    assert_eq!(step.reply, Reply::Waiting, "the GPU is free");
    let write = Write {
        pool,
        expected: view.versions,
        step: &step,
        asking: None,
        incarnation: view.incarnation.as_ref(),
    };
    matches!(store.swap(write).await.unwrap(), Swapped::Written { .. })
}

fn request(number: u128) -> Request {
    Request {
        // Spread like real ones, which are random.
        lease_id: LeaseId::from_bits(
            (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        ),
        task: locks::task(),
        owner: gpulock::process::this_owner(concat!("gpulock ", env!("CARGO_PKG_VERSION"))),
        wish: Wish::Any(1),
        priority: Priority::Normal,
        term: Term::Heartbeats(Duration::from_secs(60)),
        supervised: false,
        patience: Some(PATIENCE),
        comes_back: false,
        channel: Some(gpulock::core::Channel("gpulock:wake:1234567-0123456789abcdef".to_owned())),
        polls: 0,
        inside: Vec::new(),
    }
}
