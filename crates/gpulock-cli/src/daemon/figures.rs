//! The figures of one scrape, from what the store has at this moment.

mod alerts;

use std::collections::BTreeMap;
use std::time::Duration;

use gpulock::core::{GpuIndex, Lease, LeaseId, Phase, Term, Wants};

use super::Daemon;
use super::metrics::{
    DaemonFigures, Exceptions, GpuFigures, GpuState, HeartbeatFigures, Histogram, LOCK_BOUNDS,
    LeaseFigures, Levels, PoolFigures, QueueFigures, Recovered, Recoveries, Scrape, Sums,
    numeric_settings,
};
use super::monitor::levels;
use super::picture::Picture;

impl Daemon {
    /// Everything that `/metrics` says.
    pub(crate) async fn scrape(&self) -> Scrape {
        let pools = self.pools_of_scrape().await;
        let store_up = pools.is_some();
        let alerts = self.alert_figures().await.filter(|_| store_up);
        let notes = self.monitor.notes();
        let config = self.settings.current();
        let watches = config.gpu_lock_monitor.enabled && notes.stopped.is_none();
        let daemon = DaemonFigures {
            healthy_checks: notes.checks.healthy,
            unhealthy_checks: notes.checks.unhealthy,
            is_leader: self.leadership.leads(),
            last_check: notes.last_check.filter(|_| watches),
            store_up,
            store_roundtrip: self.pictures.roundtrips(),
            version: env!("CARGO_PKG_VERSION"),
            settings: numeric_settings(&config),
        };
        Scrape { pools: pools.unwrap_or_default(), alerts, daemon }
    }

    /// `None` if the store does not answer.
    async fn pools_of_scrape(&self) -> Option<Vec<PoolFigures>> {
        let mut figures = Vec::new();
        for pool in self.pools().await.ok()? {
            figures.push(self.pool_of_scrape(&*self.pictures.of(&pool).await.ok()?).await?);
        }
        Some(figures)
    }

    async fn pool_of_scrape(&self, picture: &Picture) -> Option<PoolFigures> {
        let counters = &picture.view.pool.ledger.counters;
        let histogram = |spans: &gpulock::core::Histogram, micros: u64| Histogram {
            bounds: LOCK_BOUNDS,
            counts: spans.counts(),
            sum_seconds: Duration::from_micros(micros).as_secs_f64(),
        };
        let (worked, failed) = (&counters.recovered, &counters.not_recovered);
        let recovered = |success, failure| Recovered { success, failure };
        Some(PoolFigures {
            name: picture.pool.to_string(),
            sums: Sums {
                granted: counters.granted,
                timed_out: counters.timed_out,
                cancelled: counters.cancelled,
                dropped: counters.dropped,
                released: counters.released,
                expired: counters.expired,
                died: counters.died,
                seized: counters.seized,
                polls: counters.polls,
            },
            levels: Levels {
                warning: counters.warnings,
                soft_timeout: counters.soft_timeouts,
                hard_timeout: counters.hard_timeouts,
            },
            recoveries: Recoveries {
                heartbeat: recovered(worked.heartbeat, failed.heartbeat),
                soft_timeout: recovered(worked.soft, failed.soft),
                hard_timeout: recovered(worked.hard, failed.hard),
            },
            exceptions: Exceptions {
                normal_release_failures: counters.normal_release_failures,
                emergency_releases: counters.emergency_releases,
                ownership_violations: counters.ownership_violations,
                release_script_errors: counters.release_script_errors,
            },
            wait: histogram(&counters.waits, counters.waited_micros),
            hold: histogram(&counters.holds, counters.held_micros),
            queue: queue_of(picture),
            gpus: self.gpus_of(picture),
            heartbeats: self.heartbeats_of(picture).await?,
        })
    }

    fn gpus_of(&self, picture: &Picture) -> Vec<GpuFigures> {
        let (pool, now) = (&picture.view.pool, picture.view.now);
        let levels = levels(&self.settings.current().gpu_lock_monitor);
        let stuck: BTreeMap<GpuIndex, LeaseId> =
            pool.deadlocks(now, &picture.waiters, &levels).into_iter().collect();
        let figures = |lease: &Lease| LeaseFigures {
            task: lease.task.to_string(),
            age: now.since(lease.acquired_at).as_secs_f64(),
            heartbeat_age: match lease.term {
                Term::Heartbeats(_) => Some(now.since(lease.renewed_at()).as_secs_f64()),
                Term::Fixed(_) => None,
            },
        };
        let gpus = picture.status.gpus.iter().map(|gpu| {
            let lease = gpu.lease_id.and_then(|id| pool.lease(id));
            GpuFigures {
                index: gpu.id.0,
                state: match lease.map(|lease| &lease.phase) {
                    None => GpuState::Free,
                    Some(Phase::Granted { .. } | Phase::Held { .. }) => GpuState::Held,
                    Some(Phase::Stopping { .. }) => GpuState::Stopping,
                    Some(Phase::Draining { .. }) => GpuState::Draining,
                },
                lease: lease.map(figures),
                deadlock: stuck.contains_key(&gpu.id),
            }
        });
        gpus.collect()
    }

    async fn heartbeats_of(&self, picture: &Picture) -> Option<HeartbeatFigures> {
        let signs = self.signs_of_life(picture).await.ok()?.statistics;
        Some(HeartbeatFigures {
            active: signs.active_tasks as u64,
            dead: signs.dead_tasks as u64,
            orphaned: signs.orphaned_tasks as u64,
        })
    }
}

fn queue_of(picture: &Picture) -> QueueFigures {
    let mut wishes: BTreeMap<String, u64> = BTreeMap::new();
    for waiter in &picture.waiters {
        match &waiter.wants {
            Wants::Any(_) => *wishes.entry("any".to_owned()).or_default() += 1,
            Wants::These(gpus) => {
                gpus.iter().for_each(|gpu| *wishes.entry(gpu.to_string()).or_default() += 1);
            }
        }
    }
    let waits = picture.waiters.iter().map(|waiter| waiter.waited(picture.view.now));
    QueueFigures {
        length: picture.view.pool.queue_len,
        longest_wait: waits.max().map(|span| span.as_secs_f64()),
        wishes: wishes.into_iter().collect(),
    }
}
