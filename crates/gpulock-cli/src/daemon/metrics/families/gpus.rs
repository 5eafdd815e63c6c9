//! The cards of a pool, and who holds them.

use std::collections::BTreeSet;

use super::{Family, Labels, PoolFigures, Sample, Unit, Value, family, gauge, of_pool};
use crate::daemon::metrics::scrape::{GpuFigures, GpuState, LeaseFigures};

/// So many tasks keep their names in one scrape.
const TASKS: usize = 100;
/// What all others are called.
const OTHER: &str = "other";

pub(super) fn families(pools: &[PoolFigures]) -> [Family; 5] {
    let held = each_gpu(pools, |gpu| {
        let is_held = matches!(gpu.state, GpuState::Held | GpuState::Stopping);
        vec![(vec![], gauge(is_held))]
    });
    let states = each_gpu(pools, |gpu| {
        let sample =
            |state: GpuState| (vec![("state", state.name().to_owned())], gauge(state == gpu.state));
        GpuState::ALL.into_iter().map(sample).collect()
    });
    let deadlocks = each_gpu(pools, |gpu| vec![(vec![], gauge(gpu.deadlock))]);
    let named = NamedTasks::of(pools);
    let of_lease = |value: fn(&LeaseFigures) -> Option<f64>| {
        each_gpu(pools, |gpu| {
            let lease = gpu.lease.as_ref();
            let sample = lease.and_then(|lease| {
                let labels = vec![("task", named.name(&lease.task).to_owned())];
                Some((labels, Value::Gauge(value(lease)?)))
            });
            sample.into_iter().collect()
        })
    };
    let ages = of_lease(|lease| Some(lease.age));
    let heartbeats = of_lease(|lease| lease.heartbeat_age);
    let seconds = || Some(Unit::Seconds);
    let state_help = "1 for the state of the GPU: free, held, stopping or draining; 0 for others.";
    let dead_help = "Whether the holder is dead or past its hard timeout while others wait.";
    [
        family("gpu_lock_held", "Whether a lease has the GPU.", None, held),
        family("gpu_lock_gpu_state", state_help, None, states),
        family("gpu_lock_lease_age", "How long the lease has lasted.", seconds(), ages),
        family(
            "gpu_lock_heartbeat_age",
            "Time since the last heartbeat of the lease.",
            seconds(),
            heartbeats,
        ),
        family("gpu_lock_deadlock", dead_help, None, deadlocks),
    ]
}

/// Tasks that keep their names. By name and not by age, so that it is the same ones in the next
/// scrape.
struct NamedTasks<'s>(BTreeSet<&'s str>);

impl<'s> NamedTasks<'s> {
    fn of(pools: &'s [PoolFigures]) -> Self {
        let gpus = pools.iter().flat_map(|pool| &pool.gpus);
        let tasks: BTreeSet<_> =
            gpus.filter_map(|gpu| Some(gpu.lease.as_ref()?.task.as_str())).collect();
        Self(tasks.into_iter().take(TASKS).collect())
    }

    fn name<'t>(&self, task: &'t str) -> &'t str {
        if self.0.contains(task) { task } else { OTHER }
    }
}

/// Samples of each GPU, with labels besides those of pool and GPU.
fn each_gpu(
    pools: &[PoolFigures],
    values: impl Fn(&GpuFigures) -> Vec<(Labels, Value)>,
) -> Vec<Sample> {
    let gpus = pools.iter().flat_map(|pool| pool.gpus.iter().map(move |gpu| (pool, gpu)));
    let samples = gpus.flat_map(|(pool, gpu)| {
        values(gpu).into_iter().map(move |(more, value)| {
            let mut labels = of_pool(pool);
            labels.push(("gpu", gpu.index.to_string()));
            labels.extend(more);
            Sample { labels, value }
        })
    });
    samples.collect()
}
