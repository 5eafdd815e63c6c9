//! How long a request will probably wait.

use std::time::Duration;

use gpulock_core::{Pool, Time};

/// How long it will probably take until a request for one GPU with `ahead` others before it is
/// served, if every lease lasts as long as those of the pool did in the mean. `None` as long as
/// no lease has ended.
///
/// Every GPU is free when its lease reaches that mean (a lease that is older may end at any
/// moment), and those who wait take the GPUs as they become free, one each.
pub fn expected_wait(pool: &Pool, now: Time, ahead: u64) -> Option<Duration> {
    let counters = &pool.ledger.counters;
    let ended = counters.released + counters.expired + counters.seized;
    let mean = Duration::from_micros(counters.held_micros.checked_div(ended)?);
    let inventory = pool.ledger.inventory.as_ref()?;
    let mut free_in: Vec<Duration> = inventory
        .gpus
        .iter()
        .map(|gpu| {
            let lease = pool.leases.iter().find(|lease| lease.gpus.contains(&gpu.index));
            lease.map_or(Duration::ZERO, |lease| mean.saturating_sub(now.since(lease.acquired_at)))
        })
        .collect();
    free_in.sort_unstable();
    let gpus = free_in.len() as u64;
    let next = free_in.get(ahead.checked_rem(gpus)? as usize)?;
    let rounds = u32::try_from(ahead / gpus).unwrap_or(u32::MAX);
    Some(next.saturating_add(mean.saturating_mul(rounds)))
}

#[cfg(test)]
mod tests {
    use gpulock_core::{Counters, Gpu, GpuIndex, Inventory, InventorySource, Ledger};

    use super::*;

    fn pool(gpus: u32, counters: Counters) -> Pool {
        let card = |index| Gpu { index: GpuIndex(index), uuid: None, model: None };
        let gpus = (0..gpus).map(card).collect();
        let inventory = Some(Inventory { source: InventorySource::Configuration, gpus });
        Pool { ledger: Ledger { inventory, counters, ..Ledger::default() }, ..Pool::default() }
    }

    #[test]
    fn nothing_is_expected_before_a_lease_has_ended() {
        assert_eq!(expected_wait(&pool(1, Counters::default()), Time::from_micros(0), 3), None);
    }

    #[test]
    fn those_ahead_share_the_gpus() {
        let counters = Counters { released: 2, held_micros: 20_000_000, ..Counters::default() };
        let wait = |gpus, ahead| {
            expected_wait(&pool(gpus, counters.clone()), Time::from_micros(0), ahead).unwrap()
        };
        assert_eq!(wait(1, 0), Duration::ZERO);
        assert_eq!(wait(1, 3), Duration::from_secs(30));
        assert_eq!(wait(2, 3), Duration::from_secs(10));
    }
}
