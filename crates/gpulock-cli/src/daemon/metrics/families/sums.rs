//! What ever happened in a pool.

use super::{Family, PoolFigures, Sample, Unit, Value, counted, each_pool, family, of_pool};

pub(super) fn families(pools: &[PoolFigures]) -> Vec<Family> {
    let mut families = vec![
        acquisitions(pools),
        timeouts(pools),
        polls(pools),
        ended(pools),
        overdue(pools),
        recoveries(pools),
        exceptions(pools),
    ];
    families.extend(durations(pools));
    families
}

fn acquisitions(pools: &[PoolFigures]) -> Family {
    let help = "Requests that ended, by their result: granted, timeout, cancelled or dropped.";
    counted("gpu_lock_acquisitions", help, "result", pools, |pool| {
        let sums = &pool.sums;
        vec![
            ("granted", sums.granted),
            ("timeout", sums.timed_out),
            ("cancelled", sums.cancelled),
            ("dropped", sums.dropped),
        ]
    })
}

fn timeouts(pools: &[PoolFigures]) -> Family {
    let help = "Requests that gave up because their waiting time was over.";
    each_pool("gpu_lock_timeout", help, pools, |pool| Some(Value::Counter(pool.sums.timed_out)))
}

fn polls(pools: &[PoolFigures]) -> Family {
    let help = "Looks at the queue by waiters.";
    each_pool("gpu_lock_poll_count", help, pools, |pool| Some(Value::Counter(pool.sums.polls)))
}

fn ended(pools: &[PoolFigures]) -> Family {
    let help =
        "Leases that ended: released, expired, died (expired, the holder is dead) or seized.";
    counted("gpu_lock_leases_ended", help, "how", pools, |pool| {
        let sums = &pool.sums;
        vec![
            ("released", sums.released),
            ("expired", sums.expired.saturating_sub(sums.died)),
            ("died", sums.died),
            ("seized", sums.seized),
        ]
    })
}

fn overdue(pools: &[PoolFigures]) -> Family {
    let help = "Times that a lease reached a level: warning, soft_timeout or hard_timeout.";
    counted("gpu_lock_overdue", help, "level", pools, |pool| {
        let levels = &pool.levels;
        vec![
            ("warning", levels.warning),
            ("soft_timeout", levels.soft_timeout),
            ("hard_timeout", levels.hard_timeout),
        ]
    })
}

fn recoveries(pools: &[PoolFigures]) -> Family {
    let samples = pools.iter().flat_map(|pool| {
        let recoveries = &pool.recoveries;
        [
            ("heartbeat", "success", recoveries.heartbeat.success),
            ("heartbeat", "failure", recoveries.heartbeat.failure),
            ("soft_timeout", "success", recoveries.soft_timeout.success),
            ("soft_timeout", "failure", recoveries.soft_timeout.failure),
            ("hard_timeout", "success", recoveries.hard_timeout.success),
            ("hard_timeout", "failure", recoveries.hard_timeout.failure),
        ]
        .map(|(level, result, count)| {
            let mut labels = of_pool(pool);
            labels.extend([("level", level.to_owned()), ("result", result.to_owned())]);
            Sample { labels, value: Value::Counter(count) }
        })
    });
    let help = "Leases whose GPUs had to be taken back, and whether they came free.";
    family("gpu_lock_recoveries", help, None, samples.collect())
}

fn exceptions(pools: &[PoolFigures]) -> Family {
    let help =
        "What went wrong around leases: releases that failed, commands that named a wrong lease.";
    counted("gpu_lock_exceptions", help, "kind", pools, |pool| {
        let exceptions = &pool.exceptions;
        vec![
            ("normal_release_failures", exceptions.normal_release_failures),
            ("emergency_releases", exceptions.emergency_releases),
            ("ownership_violations", exceptions.ownership_violations),
            ("release_script_errors", exceptions.release_script_errors),
        ]
    })
}

fn durations(pools: &[PoolFigures]) -> [Family; 2] {
    let wait =
        each_pool("gpu_lock_wait_time", "How long granted requests waited.", pools, |pool| {
            Some(Value::Histogram(pool.wait.clone()))
        });
    let hold =
        each_pool("gpu_lock_hold_time", "How long leases that ended were held.", pools, |pool| {
            Some(Value::Histogram(pool.hold.clone()))
        });
    [wait, hold].map(|family| Family { unit: Some(Unit::Seconds), ..family })
}
