//! Handing out: which waiters get the GPUs that are free.

use std::collections::BTreeSet;

use crate::gpu::GpuIndex;
use crate::ids::LeaseId;
use crate::request::Wants;
use crate::turn::Turn;

impl Turn<'_> {
    /// Lends free GPUs to the waiters in sight, in order, and puts out of the queue those
    /// that are gone. `asker` hears its grant at once.
    pub(crate) fn hand_out(&mut self, asker: Option<LeaseId>) {
        let mut free = self.pool.free_gpus();
        if free.is_empty() || self.pool.closed_for(self.now).is_some() {
            return;
        }
        self.changes.not_before = self.changes.not_before.max(self.pool.ledger.closed_until);
        // That nobody waits is read too: somebody who saw everything taken may be joining.
        self.changes.reads.queue = true;
        if self.pool.queue_len == 0 {
            return;
        }
        let shown = self.pool.window.len();
        let mut place = 0;
        while place < self.pool.window.len() && !free.is_empty() {
            let waiter = &self.pool.window[place];
            let inventory = self.pool.ledger.inventory.as_ref();
            let can_be_met = inventory.is_some_and(|inventory| waiter.wants.fits(inventory));
            if waiter.is_gone(self.now) || !can_be_met {
                self.drop_waiter(place);
                continue;
            }
            if let Some(gpus) = waiter.wants.choose(&free, &self.named_by_waiters()) {
                free.retain(|gpu| !gpus.contains(gpu));
                self.lend(place, gpus, asker);
                continue;
            }
            if waiter.waited(self.now) > self.pool.ledger.settings.pass_bound {
                waiter.wants.keep(&mut free);
            }
            place += 1;
        }
        let window_moved = self.pool.window.len() < shown;
        let more_behind = self.pool.queue_len > self.pool.window.len() as u64;
        self.again |= window_moved && more_behind && !self.pool.free_gpus().is_empty();
    }

    /// GPUs that somebody in sight asks for by name: whoever takes any GPU leaves them.
    fn named_by_waiters(&self) -> BTreeSet<GpuIndex> {
        let named = self.pool.window.iter().filter_map(|waiter| match &waiter.wants {
            Wants::These(gpus) => Some(gpus),
            Wants::Any(_) => None,
        });
        named.flatten().copied().collect()
    }
}

impl Wants {
    /// The GPUs that would meet this wish, if they are all free.
    fn choose(
        &self,
        free: &BTreeSet<GpuIndex>,
        named: &BTreeSet<GpuIndex>,
    ) -> Option<Vec<GpuIndex>> {
        match self {
            Self::These(gpus) => gpus.iter().all(|gpu| free.contains(gpu)).then(|| gpus.clone()),
            Self::Any(count) => {
                let count = *count as usize;
                let mut by_demand: Vec<_> = free.iter().copied().collect();
                by_demand.sort_by_key(|gpu| (named.contains(gpu), *gpu));
                let mut chosen = by_demand.get(..count)?.to_vec();
                chosen.sort_unstable();
                Some(chosen)
            }
        }
    }

    /// Takes out of `free` every GPU that this wish could use.
    fn keep(&self, free: &mut BTreeSet<GpuIndex>) {
        match self {
            Self::These(gpus) => free.retain(|gpu| !gpus.contains(gpu)),
            Self::Any(_) => free.clear(),
        }
    }
}
