//! What must be true of every pool at every moment, by name.
//!
//! [`Pool::step`](crate::Pool::step) checks these in debug builds; the property tests and
//! the exhaustive model check them on every transition.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::What;
use crate::gpu::GpuIndex;
use crate::ids::{LeaseId, Token};
use crate::lease::Phase;
use crate::pool::Pool;
use crate::queue::Waiter;
use crate::request::Wants;
use crate::step::Step;
use crate::time::Time;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// At most one exclusive holder per GPU.
    OneHolderPerGpu,
    /// Tokens only grow.
    TokensOnlyGrow,
    /// A holder is never also a waiter.
    HolderNeverWaits,
    /// Nobody waits on a free GPU, unless the pool is closed.
    NobodyWaitsOnFreeGpu,
    /// Order is priority, then arrival.
    OrderIsKept,
    /// An expired lease never renews.
    ExpiredNeverRenews,
    /// Every state change has exactly one event.
    OneEventPerChange,
    /// A dead waiter never keeps a grant: every grant has a moment at which it is taken back.
    GrantsAreBounded,
}

/// The first promise that a step broke, if any.
pub fn broken_by_step(before: &Pool, after: &Pool, now: Time, step: &Step) -> Option<Invariant> {
    let holds = [
        (Invariant::OneHolderPerGpu, one_holder_per_gpu(after)),
        (Invariant::HolderNeverWaits, holder_never_waits(after)),
        (Invariant::NobodyWaitsOnFreeGpu, step.again || nobody_waits_on_free_gpu(after, now)),
        (Invariant::GrantsAreBounded, grants_are_bounded(after)),
        (Invariant::TokensOnlyGrow, tokens_only_grow(before, after)),
        (Invariant::ExpiredNeverRenews, expired_never_renews(before, after, now, step)),
        (Invariant::OneEventPerChange, one_event_per_change(before, after, step)),
        (Invariant::OrderIsKept, order_is_kept(before, after, now)),
    ];
    holds.into_iter().find(|(_, kept)| !kept).map(|(invariant, _)| invariant)
}

fn one_holder_per_gpu(pool: &Pool) -> bool {
    let mut holders = BTreeMap::new();
    pool.leases.iter().flat_map(|lease| &lease.gpus).for_each(|gpu| {
        *holders.entry(gpu).or_insert(0) += 1;
    });
    holders.values().all(|count| *count == 1)
}

fn holder_never_waits(pool: &Pool) -> bool {
    pool.leases.iter().all(|lease| pool.waiter(lease.lease_id).is_none())
}

/// A waiter in sight could be met only by GPUs that are kept for earlier ones.
fn nobody_waits_on_free_gpu(pool: &Pool, now: Time) -> bool {
    let free = match pool.closed_for(now) {
        Some(_) => BTreeSet::new(),
        None => pool.free_gpus(),
    };
    pool.window.iter().all(|waiter| !could_be_met(waiter, free.clone(), pool, now))
}

/// Whether these GPUs would do for a waiter, less those that are kept for earlier ones.
fn could_be_met(waiter: &Waiter, mut gpus: BTreeSet<GpuIndex>, pool: &Pool, now: Time) -> bool {
    let keeps = |other: &&Waiter| {
        other.order() < waiter.order() && other.waited(now) > pool.ledger.settings.pass_bound
    };
    for other in pool.window.iter().filter(keeps) {
        match &other.wants {
            Wants::These(kept) => gpus.retain(|gpu| !kept.contains(gpu)),
            Wants::Any(_) => gpus.clear(),
        }
    }
    match &waiter.wants {
        Wants::These(wanted) => wanted.iter().all(|gpu| gpus.contains(gpu)),
        Wants::Any(count) => gpus.len() >= *count as usize,
    }
}

fn grants_are_bounded(pool: &Pool) -> bool {
    pool.leases.iter().all(|lease| lease.is_over() || lease.deadline().is_some())
}

fn tokens_only_grow(before: &Pool, after: &Pool) -> bool {
    let known: BTreeMap<LeaseId, Token> =
        before.leases.iter().map(|lease| (lease.lease_id, lease.token)).collect();
    after.ledger.last_token >= before.ledger.last_token
        && after.leases.iter().all(|lease| match known.get(&lease.lease_id) {
            Some(token) if *token == lease.token => true,
            _ => lease.token > before.ledger.last_token,
        })
}

fn expired_never_renews(before: &Pool, after: &Pool, now: Time, step: &Step) -> bool {
    let expired = before.leases.iter().filter(|lease| lease.deadline().is_none_or(|d| d <= now));
    expired.into_iter().all(|old| {
        let same = after.leases.iter().find(|lease| lease.reference() == old.reference());
        // A step that asks for another look may leave it as it is until then.
        same.is_none_or(|lease| {
            matches!(lease.phase, Phase::Draining { .. }) || (step.again && lease == old)
        })
    })
}

/// Counts the changes that can be seen from outside and the events that tell of them.
fn one_event_per_change(before: &Pool, after: &Pool, step: &Step) -> bool {
    let mut told: BTreeMap<&str, i64> = BTreeMap::new();
    for event in &step.events {
        let change = match event.what {
            What::Queued { .. } => "joined",
            What::Granted { .. } => "lent",
            What::Ended { .. } => "ended",
            What::Drained { .. } => "drained",
            What::Cancelled { .. } | What::Dropped { .. } => "left",
            What::Claimed { .. }
            | What::StopRequested { .. }
            | What::Overdue { .. }
            | What::StillDraining { .. }
            | What::Incident { .. }
            | What::Raised { .. }
            | What::Resumed { .. }
            | What::Configured { .. } => continue,
        };
        *told.entry(change).or_default() += 1;
    }
    let told = |change| told.get(change).copied().unwrap_or(0);
    let live = |pool: &Pool| pool.leases.iter().filter(|lease| !lease.is_over()).count() as i64;
    let taken = |pool: &Pool| pool.leases.len() as i64;
    let freed_at_once = step
        .events
        .iter()
        .filter(|event| matches!(event.what, What::Ended { draining: false, .. }));
    let lent_from_queue = step.changes.waiters.values().filter(|waiter| waiter.is_none()).count();
    live(after) - live(before) == told("lent") - told("ended")
        && taken(after) - taken(before)
            == told("lent") - told("drained") - freed_at_once.count() as i64
        && after.queue_len as i64 - before.queue_len as i64
            == told("joined") - lent_from_queue as i64
        && lent_from_queue as i64 >= told("left")
}

/// Whoever was served from the queue could not have made room for an earlier one that was
/// passed over.
fn order_is_kept(before: &Pool, after: &Pool, now: Time) -> bool {
    let served = before.window.iter().filter(|waiter| after.lease(waiter.lease_id).is_some());
    served.into_iter().all(|served| {
        let mut within_reach = after.free_gpus();
        within_reach.extend(after.lease(served.lease_id).into_iter().flat_map(|l| l.gpus.clone()));
        let earlier = after.window.iter().filter(|other| other.order() < served.order());
        earlier.into_iter().all(|other| {
            other.is_gone(now) || !could_be_met(other, within_reach.clone(), after, now)
        })
    })
}
