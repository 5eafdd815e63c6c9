//! Who waits and who sends heartbeats at this moment.

use super::{Family, PoolFigures, Sample, Unit, each_pool, family, gauge, of_pool};
use crate::daemon::metrics::exposition::Value;

pub(super) fn families(pools: &[PoolFigures]) -> Vec<Family> {
    let mut families = Vec::from(queue(pools));
    families.push(heartbeats(pools));
    families
}

fn queue(pools: &[PoolFigures]) -> [Family; 3] {
    let length = each_pool("gpu_lock_queue_length", "Requests that wait.", pools, |pool| {
        Some(gauge(pool.queue.length))
    });
    let longest = each_pool(
        "gpu_lock_longest_wait",
        "How long the request has waited that waits for the longest; 0 if none does.",
        pools,
        |pool| {
            let nobody = (pool.queue.length == 0).then_some(0.0);
            pool.queue.longest_wait.or(nobody).map(Value::Gauge)
        },
    );
    let wishes = pools.iter().flat_map(|pool| {
        pool.queue.wishes.iter().map(|(gpu, count)| {
            let mut labels = of_pool(pool);
            labels.push(("gpu", gpu.clone()));
            Sample { labels, value: gauge(*count) }
        })
    });
    let help = "Requests that wait for this GPU, or for any; one that names two counts at both.";
    let wishes = family("gpu_lock_queue_wishes", help, None, wishes.collect());
    [length, Family { unit: Some(Unit::Seconds), ..longest }, wishes]
}

fn heartbeats(pools: &[PoolFigures]) -> Family {
    let samples = pools.iter().flat_map(|pool| {
        let heartbeats = &pool.heartbeats;
        [
            ("active", heartbeats.active),
            ("dead", heartbeats.dead),
            ("orphaned", heartbeats.orphaned),
        ]
        .map(|(state, count)| {
            let mut labels = of_pool(pool);
            labels.push(("state", state.to_owned()));
            Sample { labels, value: gauge(count) }
        })
    });
    let help =
        "Tasks that run by their heartbeat: active, dead (too old) or orphaned (lease is over).";
    family("gpu_lock_heartbeats", help, None, samples.collect())
}
