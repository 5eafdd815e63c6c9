//! A pool as everybody sees it: the answer of `gpulock status --json` and of the API.

use gpulock_core::{
    GpuIndex, GpuRef, InventorySource, Lease, LeaseId, LockKey, Phase, PoolName, Priority, Term,
    Time, Waiter, Wants,
};
use serde::Serialize;

use crate::store::View;

#[cfg(feature = "openapi")]
mod described;

/// One pool. Times are seconds since the Unix epoch on the store's clock, spans are seconds.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Grows with every change of leases or queue.
    pub version: u64,
    /// How its GPUs became known; absent before the first request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<described::GpusFrom>))]
    pub gpus_from: Option<InventorySource>,
    /// How long nothing is lent, because the store came back and may have forgotten leases;
    /// absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_for_seconds: Option<f64>,
    /// Its GPUs.
    pub gpus: Vec<GpuStatus>,
    /// Who holds, the longest first.
    pub leases: Vec<LeaseStatus>,
    /// Who waits, the next first.
    pub queue: Vec<WaiterStatus>,
}

/// One GPU.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuStatus {
    /// Its number.
    #[cfg_attr(feature = "openapi", schema(value_type = u32))]
    pub id: GpuIndex,
    /// Its name in the older API.
    pub lock_key: String,
    /// The driver's UUID, if a driver was there to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The product name, if a driver was there to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether it is lent.
    pub state: GpuState,
    /// The lease that keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub lease_id: Option<LeaseId>,
}

/// Whether a GPU is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum GpuState {
    /// To anybody who asks.
    Free,
    /// To the lease named beside.
    Held,
    /// No more, but the processes of the lease named beside are not known to be gone.
    Draining,
}

/// One lease.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseStatus {
    /// Its identity.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub lease_id: LeaseId,
    /// What the work is called.
    pub task: String,
    /// Its GPUs.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<u32>))]
    pub gpus: Vec<GpuIndex>,
    /// `held` or `stopping`; `draining` when it is over and its processes are not.
    pub state: LeaseStateName,
    /// Who went first.
    #[cfg_attr(feature = "openapi", schema(value_type = described::PriorityName))]
    pub priority: Priority,
    /// Its fencing token.
    pub token: u64,
    /// Where its holder runs.
    pub host: String,
    /// Its holder's process, if anybody can look at it.
    pub pid: Option<u32>,
    /// Whose process that is.
    pub user: String,
    /// When it was granted.
    pub acquired_at: f64,
    /// For how long it has been held.
    pub age_seconds: f64,
    /// How long it lives without another heartbeat; absent when it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_in_seconds: Option<f64>,
    /// Since the last heartbeat.
    pub last_heartbeat_seconds_ago: f64,
    /// How far the work is, in percent, if its holder told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// What the work is doing, if its holder told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether heartbeats extend it.
    pub heartbeats: bool,
}

/// The state of a lease, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LeaseStateName {
    /// In use, or granted and about to be.
    Held,
    /// In use, and asked to stop.
    Stopping,
    /// Over; its processes are not known to be gone.
    Draining,
}

/// One waiter.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaiterStatus {
    /// The id that its lease will have.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub lease_id: LeaseId,
    /// What the work is called.
    pub task: String,
    /// Its place, from 1.
    pub position: usize,
    /// Who goes first.
    #[cfg_attr(feature = "openapi", schema(value_type = described::PriorityName))]
    pub priority: Priority,
    /// For how long it has waited.
    pub waiting_seconds: f64,
    /// Where it runs.
    pub host: String,
    /// Its process, if anybody can look at it.
    pub pid: Option<u32>,
    /// Whose process that is.
    pub user: String,
    /// What it waits for.
    pub wants: WantsStatus,
}

/// What a waiter waits for: certain GPUs, or a number of any.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WantsStatus {
    /// `[0, 1]` or `2`.
    #[cfg_attr(feature = "openapi", schema(value_type = described::Gpus))]
    pub gpus: Wants,
}

impl PoolStatus {
    /// What a picture of a pool shows, with everybody who waits.
    pub fn new(name: &PoolName, view: &View, waiters: &[Waiter]) -> Self {
        let View { pool, versions, now, .. } = view;
        let now = *now;
        let mut leases: Vec<_> = pool.leases.iter().collect();
        leases.sort_by_key(|lease| lease.acquired_at);
        let inventory = pool.ledger.inventory.as_ref();
        let cards = inventory.map(|inventory| inventory.gpus.as_slice()).unwrap_or_default();
        let gpus = cards.iter().map(|card| {
            let keeper = pool.leases.iter().find(|lease| lease.gpus.contains(&card.index));
            let gpu = GpuRef::Index(card.index);
            GpuStatus {
                id: card.index,
                lock_key: LockKey { pool: name.clone(), gpu }.to_string(),
                uuid: card.uuid.clone(),
                model: card.model.clone(),
                state: match keeper {
                    None => GpuState::Free,
                    Some(lease) if lease.is_over() => GpuState::Draining,
                    Some(_) => GpuState::Held,
                },
                lease_id: keeper.map(|lease| lease.lease_id),
            }
        });
        Self {
            name: name.to_string(),
            version: versions.leases + versions.queue,
            closed_for_seconds: pool.closed_for(now).map(|left| left.as_secs_f64()),
            gpus_from: inventory.map(|inventory| inventory.source),
            gpus: gpus.collect(),
            leases: leases.into_iter().map(|lease| LeaseStatus::new(lease, now)).collect(),
            queue: waiters
                .iter()
                .enumerate()
                .map(|(place, waiter)| WaiterStatus::new(waiter, place + 1, now))
                .collect(),
        }
    }
}

impl LeaseStatus {
    /// What a lease looks like at `now`.
    pub fn new(lease: &Lease, now: Time) -> Self {
        let deadline = lease.deadline();
        Self {
            lease_id: lease.lease_id,
            task: lease.task.to_string(),
            gpus: lease.gpus.clone(),
            state: match lease.phase {
                Phase::Granted { .. } | Phase::Held { .. } => LeaseStateName::Held,
                Phase::Stopping { .. } => LeaseStateName::Stopping,
                Phase::Draining { .. } => LeaseStateName::Draining,
            },
            priority: lease.priority,
            token: lease.token.value(),
            host: lease.owner.host.clone(),
            pid: lease.owner.process.as_ref().map(|own| own.process.pid),
            user: lease.owner.user.clone(),
            acquired_at: lease.acquired_at.as_secs_f64(),
            age_seconds: now.since(lease.acquired_at).as_secs_f64(),
            deadline_in_seconds: deadline.map(|moment| moment.since(now).as_secs_f64()),
            last_heartbeat_seconds_ago: now.since(lease.renewed_at()).as_secs_f64(),
            progress: lease.progress.as_ref().map(|p| f64::from(p.basis_points) / 100.0),
            message: lease.progress.as_ref().map(|p| p.message.clone()),
            heartbeats: matches!(lease.term, Term::Heartbeats(_)),
        }
    }
}

impl WaiterStatus {
    fn new(waiter: &Waiter, position: usize, now: Time) -> Self {
        Self {
            lease_id: waiter.lease_id,
            task: waiter.task.to_string(),
            position,
            priority: waiter.priority,
            waiting_seconds: waiter.waited(now).as_secs_f64(),
            host: waiter.owner.host.clone(),
            pid: waiter.owner.process.as_ref().map(|own| own.process.pid),
            user: waiter.owner.user.clone(),
            wants: WantsStatus { gpus: waiter.wants.clone() },
        }
    }
}
