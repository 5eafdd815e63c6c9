//! A pool's record in memory: everything a store keeps of a pool, and the two things it
//! does with it.

use std::collections::{BTreeMap, HashMap};

use crate::ids::LeaseId;
use crate::lease::Lease;
use crate::pool::{Ledger, Pool};
use crate::queue::{LOOK_AHEAD, Waiter};
use crate::step::Changes;
use crate::time::Time;

/// Everything that is kept of one pool. The memory store holds one of these for each pool;
/// the model and the property tests drive the rules through it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    ledger: Ledger,
    leases: BTreeMap<LeaseId, Lease>,
    queue: BTreeMap<(u8, u64), Waiter>,
    arrivals: u64,
}

impl Record {
    /// What the rules look at. If `asking` is in the queue, it is stamped as seen at `now`.
    pub fn view(&mut self, asking: Option<LeaseId>, now: Time) -> Pool {
        let mut asker = None;
        if let Some(waiter) = self.queue.values_mut().find(|w| Some(w.lease_id) == asking) {
            waiter.seen_at = now;
            asker = Some(waiter.clone());
        }
        let mut shown: HashMap<String, usize> = HashMap::new();
        let window: Vec<_> = self
            .queue
            .values()
            .filter(|waiter| {
                let count = shown.entry(waiter.wants.lane()).or_default();
                *count += 1;
                *count <= LOOK_AHEAD
            })
            .cloned()
            .collect();
        Pool {
            ledger: self.ledger.clone(),
            leases: self.leases.values().cloned().collect(),
            asker: asker.filter(|asker| window.iter().all(|w| w.lease_id != asker.lease_id)),
            window,
            queue_len: self.queue.len() as u64,
        }
    }

    /// Writes what a step changed. A waiter that is already in the queue keeps its place.
    pub fn apply(&mut self, changes: &Changes) {
        if let Some(ledger) = &changes.ledger {
            self.ledger = ledger.clone();
        }
        for (lease_id, lease) in &changes.leases {
            match lease {
                Some(lease) => self.leases.insert(*lease_id, lease.clone()),
                None => self.leases.remove(lease_id),
            };
        }
        for (lease_id, waiter) in &changes.waiters {
            match waiter {
                Some(waiter) => self.join(waiter.clone()),
                None => self.queue.retain(|_, queued| queued.lease_id != *lease_id),
            }
        }
    }

    /// Whether there is a lease with this id.
    pub fn is_leased(&self, lease_id: LeaseId) -> bool {
        self.leases.contains_key(&lease_id)
    }

    /// How many wait before this request; `None` if it does not wait.
    pub fn ahead_of(&self, lease_id: LeaseId) -> Option<u64> {
        self.queue.values().position(|waiter| waiter.lease_id == lease_id).map(|place| place as u64)
    }

    /// The first `limit` waiters, in order.
    pub fn waiters(&self, limit: usize) -> Vec<Waiter> {
        self.queue.values().take(limit).cloned().collect()
    }

    fn join(&mut self, waiter: Waiter) {
        if self.ahead_of(waiter.lease_id).is_none() {
            self.arrivals += 1;
            let waiter = Waiter { arrival: self.arrivals, ..waiter };
            self.queue.insert(waiter.order(), waiter);
        }
    }
}
